package cluster

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ParseRegistry splits HOST=URL, as in
// registry.slipway.internal=http://127.0.0.1:8080, and checks both halves.
func ParseRegistry(mapping string) (host, target string, err error) {
	host, target, ok := strings.Cut(mapping, "=")
	if !ok {
		return "", "", fmt.Errorf("registry %q: write HOST=URL", mapping)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$`).MatchString(host) || strings.HasPrefix(host, ".") {
		return "", "", fmt.Errorf("registry %q: %q is no host name as in an image reference", mapping, host)
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", "", fmt.Errorf("registry %q: %w", mapping, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", "", fmt.Errorf("registry %q: %q is no http or https URL", mapping, target)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("registry %q: the URL may have a path, but no user, query or fragment", mapping)
	}
	return host, strings.TrimSuffix(target, "/"), nil
}

// MapRegistry makes image references with this host be pulled from target. It
// takes effect at the next pull, also in a running cluster.
func (c *Cluster) MapRegistry(host, target string) error {
	c.Registries[host] = target
	if err := c.writeRegistry(host, target); err != nil {
		return err
	}
	return c.save()
}

// UnmapRegistry makes image references with this host be pulled from the host
// itself again.
func (c *Cluster) UnmapRegistry(host string) error {
	delete(c.Registries, host)
	err := os.RemoveAll(c.registryDir(host))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unmap registry %s: %w", host, err)
	}
	return c.save()
}

func (c *Cluster) writeRegistry(host, target string) error {
	text, err := hostsFile(target)
	if err != nil {
		return fmt.Errorf("map registry %s: %w", host, err)
	}
	if err := writeFile(filepath.Join(c.registryDir(host), "hosts.toml"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("map registry %s: %w", host, err)
	}
	return nil
}

// registryDir is the folder containerd looks into for a host. It writes a
// port as _PORT_.
func (c *Cluster) registryDir(host string) string {
	if name, port, ok := strings.Cut(host, ":"); ok {
		host = name + "_" + port + "_"
	}
	return c.path("registries", host)
}

// hostsFile is containerd's hosts.toml for a registry at target. The target is
// both the only mirror and the server of last resort; without the latter,
// containerd would go on to the host's real address after an error and report
// that one's failure.
func hostsFile(target string) (string, error) {
	u, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	settings := fmt.Sprintf("capabilities = [\"pull\", \"resolve\"]\nskip_verify = true\noverride_path = %t\n", u.Path != "")
	return fmt.Sprintf("server = %q\n%s\n[host.%q]\n%s", target, settings, target, indent(settings)), nil
}

func indent(lines string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n  ") + "\n"
}
