// Package cluster starts, describes and removes a complete Kubernetes with one
// node on this machine, for demonstrations and tests.
//
// It runs the real components (etcd, containerd and the binaries package tool
// builds) as processes of this machine and keeps everything they write in one
// folder. Nothing it starts can be reached from another machine, and Down
// leaves nothing behind. It needs root, and one machine holds one cluster at a
// time. It links no Kubernetes code, restarts no component that died (the next
// Up does) and is not meant for production.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/slipway-cd/slipway/cluster/tool"
)

// DefaultName names the cluster of a caller who names none.
const DefaultName = "slipway"

// defaultParent holds the folders of clusters that were given none.
const defaultParent = "/var/lib/slipway-cluster"

// maxDir keeps the sockets below a cluster's folder within the 107 bytes a
// socket's path may have.
const maxDir = 60

// Cluster is a cluster's description; it is kept in cluster.json in its Dir.
type Cluster struct {
	// Name is a DNS label; the node, the bridge and the control group are
	// called after it.
	Name string `json:"name"`
	// Dir holds every file of the cluster. It is an absolute path, and Down
	// removes it.
	Dir string `json:"dir"`
	// Network holds the addresses this cluster takes.
	Network Network `json:"network"`
	// Ports are the ports of the components, by component.
	Ports Ports `json:"ports"`
	// Registries maps the host in an image reference to the URL it is pulled
	// from.
	Registries map[string]string `json:"registries"`
	// Binaries are the executables, by the name of their component.
	Binaries map[string]string `json:"binaries"`
	// Sysctls are kernel settings the components change, as they were before.
	Sysctls map[string]string `json:"sysctls"`
}

// Machine is what a cluster needs from its surroundings.
type Machine struct {
	// Tools builds and keeps the binaries.
	Tools tool.Cache
	// Source is the folder of this module, where the tools' sources are.
	Source string
	// Progress receives one line for each thing that was done.
	Progress io.Writer
}

// New describes a cluster that may not exist yet. An empty dir means
// /var/lib/slipway-cluster/NAME.
func New(name, dir string) (*Cluster, error) {
	if name == "" {
		name = DefaultName
	}
	if !regexp.MustCompile(`^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$`).MatchString(name) {
		return nil, fmt.Errorf("cluster name %q: use up to 30 lower case letters, digits and dashes, starting with a letter", name)
	}
	if dir == "" {
		dir = filepath.Join(defaultParent, name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find folder %s: %w", dir, err)
	}
	if len(dir) > maxDir {
		return nil, fmt.Errorf("folder %s: its path is longer than %d bytes, too long for the sockets below it", dir, maxDir)
	}
	return &Cluster{Name: name, Dir: dir, Registries: map[string]string{}}, nil
}

// Open reads the description of the cluster in dir. The error is
// os.ErrNotExist when there is none.
func Open(dir string) (*Cluster, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if err != nil {
		return nil, fmt.Errorf("open the cluster in %s: %w", dir, err)
	}
	c := &Cluster{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, "cluster.json"), err)
	}
	if c.Registries == nil {
		c.Registries = map[string]string{}
	}
	return c, nil
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.path("kubeconfig") }

// LogFile is where the output of a component goes.
func (c *Cluster) LogFile(component string) string { return c.path("logs", component+".log") }

// KubectlPath is the binary that acts as kubectl.
func (c *Cluster) KubectlPath() string { return c.path("bin", "kubectl") }

// KubectlCache is where kubectl keeps what it learnt about the API server, so
// that nothing stays in the user's home.
func (c *Cluster) KubectlCache() string { return c.path("run", "kubectl") }

func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.Dir}, elements...)...)
}

func (c *Cluster) save() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(c.path("cluster.json"), append(data, '\n'), 0o600)
}

// checkDir returns an error if the cluster's folder holds something else, so
// that Down removes nothing but clusters.
func (c *Cluster) checkDir() error {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into %s: %w", c.Dir, err)
	}
	_, err = os.Stat(c.path("cluster.json"))
	if len(entries) == 0 || err == nil {
		return nil
	}
	current, err := Current()
	if err != nil {
		return err
	}
	if current == nil || current.Dir != c.Dir {
		return fmt.Errorf("folder %s is not empty and holds no cluster; name a new or an empty folder", c.Dir)
	}
	return nil
}

// claimDir makes the cluster's folder, which Down will remove.
func (c *Cluster) claimDir() error {
	if err := c.checkDir(); err != nil {
		return err
	}
	for _, sub := range []string{"", "bin", "logs", "run", "pki", "config", "registries"} {
		if err := os.MkdirAll(c.path(sub), 0o711); err != nil {
			return fmt.Errorf("make the cluster's folder: %w", err)
		}
	}
	return c.save()
}

// writeFile replaces a file at once: a reader sees the old content or the new.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	_, err = part.Write(data)
	err = errors.Join(err, part.Chmod(mode), part.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(part.Name(), path)
}

// Load opens the cluster in dir, or describes a new one if there is none. An
// empty dir means that of the cluster with this name. A cluster that has
// another name is an error; an empty name accepts any.
func Load(name, dir string) (*Cluster, error) {
	fresh, err := New(name, dir)
	if err != nil {
		return nil, err
	}
	c, err := Open(fresh.Dir)
	if errors.Is(err, os.ErrNotExist) {
		current, err := Current()
		if err != nil || current == nil || current.Dir != fresh.Dir {
			return fresh, err
		}
		c = current
	} else if err != nil {
		return nil, err
	}
	if name != "" && name != c.Name {
		return nil, fmt.Errorf("the cluster in %s is called %s, not %s", c.Dir, c.Name, name)
	}
	// A folder may have been moved while no process used it.
	c.Dir = fresh.Dir
	return c, nil
}
