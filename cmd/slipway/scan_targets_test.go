package main

import (
	"fmt"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/oci"
)

func TestChosenPlatforms(t *testing.T) {
	t.Parallel()
	two := []oci.PlatformImage{{Platform: "linux/amd64", Digest: "sha256:a"}, {Platform: "linux/arm/v7", Digest: "sha256:b"}}
	many := make([]oci.PlatformImage, maxScanned+1)
	for _, c := range []struct {
		flags scanFlags
		list  []oci.PlatformImage
		want  string
	}{
		{scanFlags{}, two, "[{linux/amd64 sha256:a} {linux/arm/v7 sha256:b}]"},
		{scanFlags{platform: "linux/arm"}, two, "[{linux/arm/v7 sha256:b}]"},
		{scanFlags{platform: "linux/arm64"}, two, "web is not for linux/arm64 but for linux/amd64, linux/arm/v7"},
		{scanFlags{platform: "linux/amd64", output: "spdx"}, two, "[{linux/amd64 sha256:a}]"},
		{scanFlags{output: "spdx"}, two, "an SBOM is of one platform: choose one with --platform: linux/amd64, linux/arm/v7"},
		{scanFlags{}, []oci.PlatformImage{{Digest: "sha256:a"}}, "[{ sha256:a}]"},
		{scanFlags{platform: "linux/amd64"}, []oci.PlatformImage{{Digest: "sha256:a"}}, "web is for one platform only: leave --platform out"},
		{scanFlags{}, nil, "web names no image"},
		{scanFlags{}, many, "web is for 17 platforms, and at most 16 are scanned at once: choose one with --platform: , , , , , , , , , , , , , , , , "},
	} {
		list, err := c.flags.chosen("web", c.list)
		got := fmt.Sprint(list)
		if err != nil {
			got = err.Error()
		}
		if got != c.want || (err != nil && slipway.ErrorCode(err) != slipway.Invalid) {
			t.Errorf("%+v: %s, want %s", c.flags, got, c.want)
		}
	}
}
