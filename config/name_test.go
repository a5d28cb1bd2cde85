package config_test

import (
	"testing"

	"github.com/slipway-cd/slipway/config"
)

func TestServiceName(t *testing.T) {
	t.Parallel()
	for folder, want := range map[string]string{
		"My_Service": "my-service", "größe": "grosse", "GRÖẞE": "grosse", "cafe\u0301": "cafe", "Café.API": "cafe-api", "--x--": "x", "日本": "", "ﬁles²": "files2", "": "",
	} {
		if got := config.ServiceName(folder); got != want {
			t.Errorf("%q is %q, not %q", folder, got, want)
		}
	}
}
