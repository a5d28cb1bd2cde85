package helm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/deploy"
)

// pinner is Helm's post-renderer: it pins the service's images, gives their pods the pull secret and
// annotates the objects that make pods.
type pinner struct {
	req    deploy.Request
	pinned int // containers whose image was pinned
}

// Run rewrites YAML documents. It changes nothing that it does not have to.
func (p *pinner) Run(in *bytes.Buffer) (*bytes.Buffer, error) {
	p.pinned = 0
	dec := yaml.NewDecoder(in)
	out := &bytes.Buffer{}
	enc := yaml.NewEncoder(out)
	enc.SetIndent(2)
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, enc.Close()
		}
		if err != nil {
			return nil, slipway.Errorf(slipway.Invalid, "the chart renders YAML that does not parse: %w", err)
		}
		if err := p.document(&doc); err != nil {
			return nil, err
		}
		if err := enc.Encode(&doc); err != nil {
			return nil, fmt.Errorf("write a rendered object: %w", err)
		}
	}
}

func (p *pinner) document(doc *yaml.Node) error {
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	name := text(root, "kind") + "/" + text(get(root, "metadata"), "name")
	if ns := text(get(root, "metadata"), "namespace"); ns != "" && ns != p.req.Target.Namespace {
		return slipway.Errorf(slipway.Invalid, "%s is put into namespace %s: a release may only have objects in its environment's namespace %s", name, ns, p.req.Target.Namespace)
	}
	found, err := p.walk(root, name)
	if err != nil || !found {
		return err
	}
	p.annotate(root)
	return nil
}

// walk finds the pod specs below n, whatever kind they are in, and reports whether there was one.
func (p *pinner) walk(n *yaml.Node, name string) (bool, error) {
	found := false
	if isPodSpec(n) {
		found = true
		if err := p.podSpec(n, name); err != nil {
			return true, err
		}
	}
	for _, c := range n.Content {
		below, err := p.walk(c, name)
		if err != nil {
			return true, err
		}
		found = found || below
	}
	return found, nil
}

func isPodSpec(n *yaml.Node) bool {
	list := get(n, "containers")
	return list != nil && list.Kind == yaml.SequenceNode && len(list.Content) > 0 && get(list.Content[0], "name") != nil
}

func (p *pinner) podSpec(spec *yaml.Node, name string) error {
	pinned := false
	for _, key := range []string{"initContainers", "containers", "ephemeralContainers"} {
		list := get(spec, key)
		if list == nil {
			continue
		}
		for _, c := range list.Content {
			image := get(c, "image")
			if image == nil || image.Kind != yaml.ScalarNode {
				continue
			}
			pin, err := pinImage(p.req.Pin, image.Value)
			if err != nil {
				return slipway.Errorf(slipway.Invalid, "container %s of %s: %w", text(c, "name"), name, err)
			}
			if pin != "" {
				image.Value, image.Style, image.Tag = pin, 0, "!!str"
				pinned = true
				p.pinned++
			}
		}
	}
	if pinned && p.req.Pin.PullSecret != "" {
		addPullSecret(spec, p.req.Pin.PullSecret)
	}
	return nil
}

// pinImage returns what an image becomes, "" when it is not the service's.
func pinImage(pin deploy.Pin, image string) (string, error) {
	name, digest, _ := strings.Cut(image, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	if host, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		if !slices.Contains(pin.Hosts, host) {
			return "", nil
		}
		name = rest
	}
	if !slices.Contains(pin.Paths, name) {
		return "", nil
	}
	if digest != "" && digest != pin.Digest {
		return "", fmt.Errorf("the chart asks for %s, but this deployment is of digest %s: let the chart use image.digest, or no digest", image, pin.Digest)
	}
	return pin.Image(), nil
}

func addPullSecret(spec *yaml.Node, secret string) {
	list := get(spec, "imagePullSecrets")
	if list == nil || list.Kind != yaml.SequenceNode {
		list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		set(spec, "imagePullSecrets", list)
	}
	for _, s := range list.Content {
		if text(s, "name") == secret {
			return
		}
	}
	list.Style = 0
	entry := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	set(entry, "name", str(secret))
	list.Content = append(list.Content, entry)
}

// annotate writes to the metadata of the object itself, never to its pods', so that no pod rolls.
func (p *pinner) annotate(root *yaml.Node) {
	meta := get(root, "metadata")
	if meta == nil || meta.Kind != yaml.MappingNode {
		return
	}
	notes := get(meta, "annotations")
	if notes == nil || notes.Kind != yaml.MappingNode {
		notes = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		set(meta, "annotations", notes)
	}
	for _, k := range slices.Sorted(maps.Keys(p.req.Annotations)) {
		set(notes, k, str(p.req.Annotations[k]))
	}
	switch text(root, "kind") {
	case "Deployment", "StatefulSet", "DaemonSet":
		if p.req.ChangeCause != "" && get(notes, changeCause) == nil {
			set(notes, changeCause, str(p.req.ChangeCause))
		}
	}
}

const changeCause = "kubernetes.io/change-cause"

func get(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func set(n *yaml.Node, key string, v *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = v
			return
		}
	}
	n.Style = 0
	n.Content = append(n.Content, str(key), v)
}

func text(n *yaml.Node, key string) string {
	if v := get(n, key); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}

func str(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// storageOf names the claims, and the stateful sets with claims, of a manifest.
func storageOf(manifest string) ([]string, error) {
	var out []string
	dec := yaml.NewDecoder(strings.NewReader(manifest))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, slipway.Errorf(slipway.Invalid, "the stored manifest does not parse: %w", err)
		}
		if len(doc.Content) == 0 {
			continue
		}
		root := doc.Content[0]
		kind := text(root, "kind")
		claims := get(get(root, "spec"), "volumeClaimTemplates")
		if kind == "PersistentVolumeClaim" || kind == "StatefulSet" && claims != nil && len(claims.Content) > 0 {
			out = append(out, kind+"/"+text(get(root, "metadata"), "name"))
		}
	}
}
