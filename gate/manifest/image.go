package manifest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway"
)

var digestExpr = regexp.MustCompile(`^[a-z0-9]+([+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}$`)

// images judges the images of containers and of volumes.
func (f *finder) images() {
	for _, c := range f.pod.containers {
		f.image("container "+c.name, text(c.fields["image"]), below(c.at, "image"))
	}
	for i, v := range list(f.pod.spec["volumes"]) {
		volume := object(v)
		if ref := text(object(volume["image"])["reference"]); ref != "" {
			f.image("volume "+text(volume["name"]), ref, below(f.pod.at, "volumes", strconv.Itoa(i), "image", "reference"))
		}
	}
}

func (f *finder) image(what, ref string, at []string) {
	if ref == "" {
		return
	}
	repository, tag, digest := SplitImage(ref)
	if IsOwn(repository, f.settings.Image) {
		return
	}
	pinned := digestExpr.MatchString(digest)
	switch {
	case pinned:
	case tag == "":
		f.add(LatestTag, at, fmt.Sprintf("%s has image %q without a tag, which is whatever was pushed last as latest: name a version or a digest", what, ref))
	case tag == "latest":
		f.add(LatestTag, at, fmt.Sprintf("%s has image %q, which is whatever was pushed last: name a version or a digest", what, ref))
	}
	if !pinned {
		f.add(DigestPinned, at, fmt.Sprintf("%s has image %q by tag, which can be moved: add its digest, %s@sha256:...", what, ref, ref))
	}
	if len(f.settings.Registries) > 0 && !allowed(repository, f.settings) {
		f.add(Registry, at, fmt.Sprintf("%s has image %q, and only images from %s are allowed", what, ref, strings.Join(f.settings.Registries, ", ")))
	}
}

// SplitImage takes an image's name apart.
func SplitImage(ref string) (repository, tag, digest string) {
	repository, digest, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:i], repository[i+1:]
	}
	return repository, tag, digest
}

// IsOwn reports whether a repository in a manifest is that image's: with or without the host, or with a
// host of its own. Such images are pinned to the digest when they are deployed (D17).
func IsOwn(repository string, image slipway.Repository) bool {
	return image.Name != "" && (repository == image.Ref() || repository == image.Name || strings.HasSuffix(repository, "/"+image.Name))
}

// allowed compares by host and whole path elements.
func allowed(repository string, s Settings) bool {
	full := withHost(repository)
	for _, r := range append([]string{s.Image.Registry.Host}, s.Registries...) {
		r = strings.TrimRight(strings.TrimPrefix(strings.TrimPrefix(r, "https://"), "http://"), "/")
		if r == "" {
			continue
		}
		host, rest, _ := strings.Cut(r, "/")
		r = strings.TrimSuffix(dockerHub(host)+"/"+rest, "/")
		if full == r || strings.HasPrefix(full, r+"/") {
			return true
		}
	}
	return false
}

// withHost is the repository as it is pulled: names without a host are Docker Hub's.
func withHost(repository string) string {
	host, rest, found := strings.Cut(repository, "/")
	if found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return dockerHub(host) + "/" + rest
	}
	if !found {
		repository = "library/" + repository
	}
	return "docker.io/" + repository
}

func dockerHub(host string) string {
	host = strings.ToLower(host)
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}
