package slipway

// ManifestReport is what is remarkable about the objects that a chart renders for one environment.
type ManifestReport struct {
	Environment string `json:"environment"`
	KubeVersion string `json:"kubeVersion"`
	// Live is set when the cluster's own API and its CRDs were asked; else the schema that ships with
	// Slipway was.
	Live bool `json:"live,omitempty"`
	// API tells apart the schemas that objects are checked against: with the same one, the same objects are judged
	// alike. Empty: it cannot be told.
	API      string            `json:"api,omitempty"`
	Objects  []ManifestObject  `json:"objects"`
	Problems []ManifestProblem `json:"problems,omitempty"`
}

// ManifestObject is one rendered object.
type ManifestObject struct {
	Name     string `json:"name"`     // Deployment/web
	Template string `json:"template"` // file of the chart
	YAML     string `json:"yaml,omitempty"`
}

// ManifestProblem is one thing about an object, found by a policy.
type ManifestProblem struct {
	Policy  string `json:"policy"`         // schema, removed-api, latest-tag, non-root ...
	Object  string `json:"object"`         // Deployment/web
	Path    string `json:"path,omitempty"` // in the object: spec.template.spec.containers[web].image
	Message string `json:"message"`
	Place   string `json:"place,omitempty"`  // chart/templates/deployment.yaml:14
	Values  string `json:"values,omitempty"` // chart/values.yaml:7, the line that gave the value
}

// Subject is what a waiver names.
func (p ManifestProblem) Subject() string { return p.Policy + " " + p.Object }
