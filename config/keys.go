package config

const (
	nameExpr      = `^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`
	namespaceExpr = `^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// A part of a path is none of "", ".", "..", and does not begin with a dash: no path leaves the
	// repository, and none can be taken for an option.
	partExpr     = `([^-./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*|\.[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*)`
	pathExpr     = `^(\.|(\./)?` + partExpr + `(/` + partExpr + `)*/?)$`
	resultsExpr  = `^/?` + partExpr + `(/` + partExpr + `)*/?$`
	durationExpr = `^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	stageExpr    = `^[a-zA-Z][a-zA-Z0-9_.-]*$`
	argExpr      = `^[A-Za-z_][A-Za-z0-9_]*$`
	hostExpr     = `^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?$`
	addressExpr  = `^https?://[^\s/?#@]+/?$`
	prefixExpr   = `^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$`
	// A pattern is a path whose parts may have * and ?, or be **; a dependency is the name of a service
	// or a path. Both may begin with a slash.
	patternExpr = `^(/|\.|(/|\./)?` + partExpr + `(/` + partExpr + `)*/?)$`
	dependsExpr = `^(/|\./)?` + partExpr + `(/` + partExpr + `)*/?$`
	refExpr     = `^[^\x00- ~^:\\\[\x7f]+$`
	imageExpr   = `^[a-zA-Z0-9][a-zA-Z0-9._:/-]*$`
	digestExpr  = `^sha256:[0-9a-f]{64}$`
)

// root describes the whole of slipway.yaml.
func root() *shape {
	return &shape{
		kind: object,
		doc:  "Configuration of a Slipway project. Everything in it is optional: a repository without slipway.yaml works by conventions.",
		keys: []key{
			{name: "version", shape: &shape{kind: integer, min: 1, max: 1, word: "1", doc: "Version of this format."}, fallback: "1"},
			{name: "services", shape: services(), fallback: "every folder with a Dockerfile"},
			{name: "environments", shape: environments(), fallback: "development, qa, production"},
			{name: "registry", shape: registries(), fallback: "the registry of the server"},
			{name: "shared", shape: shared()},
			{name: "pins", shape: pins()},
			{name: "pullRequests", shape: pullRequests()},
			{name: "limits", shape: limits()},
			{name: "gates", shape: gates("What the gates demand. Each has defaults and is on.")},
			{name: "retention", shape: retention()},
		},
	}
}

func services() *shape {
	return &shape{
		kind: table, keyWord: "names of services", keyRule: "lower-case letters, digits and dashes, at most 40", keyMatch: newPattern(nameExpr), most: maxServices,
		doc:  "Services by name. One that was found by convention is overridden key by key; path adds one that was not, or gives a folder another name: what was found there stays a service only if it is named here too.",
		elem: service(),
	}
}

func service() *shape {
	return &shape{
		kind: object, word: "settings of the service", orFalse: "the folder of that name is not a service",
		doc: "A service: a folder that is built, tested and deployed on its own.",
		keys: []key{
			{name: "path", shape: pathText("Folder of the service, relative to the repository: it is the build context, and a change in it is a change of the service."), fallback: "the folder of that name that has a Dockerfile"},
			{name: "dockerfile", shape: pathText("The Dockerfile, relative to the service's folder."), fallback: "Dockerfile"},
			{name: "target", shape: stageName("Stage of the Dockerfile that is the runtime image."), fallback: "the last stage"},
			{name: "args", shape: &shape{
				kind: table, keyWord: "names of ARGs", keyRule: "letters, digits and underscores, no digit first", keyMatch: newPattern(argExpr), most: 100, word: "names and texts",
				doc:  "Build arguments. They are stored in plain sight: no secrets.",
				elem: &shape{kind: text, most: 4096, word: "text; put numbers in quotes", doc: "Value of the build argument. Text: write \"1.20\" in quotes, a bare 1.20 is the number 1.2."},
			}},
			{name: "chart", shape: pathText("Folder of the Helm chart, relative to the repository."), fallback: "chart/ in the service's folder, else charts/<service>, else the standard chart"},
			{name: "port", shape: &shape{kind: integer, min: 1, max: 65535, word: "a port from 1 to 65535", doc: "Port the service listens on, for the standard chart."}, fallback: "the single EXPOSE of the Dockerfile"},
			{name: "context", shape: pathText("Build context, relative to the repository: what COPY can see. A folder with the Dockerfile in or below it."), fallback: "the service's folder; the repository's root when the Dockerfile copies what is only found from there"},
			{name: "dependsOn", shape: &shape{
				kind: list, most: 50, word: "a list of services and paths",
				doc:  "Services whose code is part of this one, and shared folders or files, relative to the repository: a change of theirs is a change of this service, and of what depends on it. It is deployed after those services, once they are verified, when one run deploys both.",
				elem: &shape{kind: text, match: newPattern(dependsExpr), most: 300, word: "the name of a service, or a path inside the repository", doc: "Name of a service, or a folder or file."},
			}},
			{name: "after", shape: &shape{
				kind: list, most: 50, word: "a list of services",
				doc:  "Services that are called when this one runs and are no part of it: their changes are not its changes. It is deployed after them, once they are verified, when one run deploys both.",
				elem: &shape{kind: text, match: newPattern(nameExpr), word: "the name of a service", doc: "Name of a service."},
			}},
			{name: "trigger", shape: serviceTrigger()},
			{name: "test", shape: serviceTest(), fallback: "the stage testrunner, when the Dockerfile has one"},
			{name: "scan", shape: &shape{
				kind: object, doc: "How the image is scanned. As the gates, this is read from the default branch.",
				keys: []key{{name: "reports", shape: &shape{
					kind: list, most: 20, word: "a list of files",
					doc:  "Reports of other scanners (SARIF or CycloneDX), in the service's folder or among the results of its tests: they are the evidence in place of Slipway's own scan.",
					elem: pathText("A file, relative to the service's folder or to the results of the tests."),
				}, fallback: "Slipway's own scan"}},
			}},
			{name: "rollback", shape: &shape{kind: text, enum: []string{"automatic", "manual"}, doc: "What follows a failed verification: the last verified deployment is brought back, or a person decides."}, fallback: "automatic"},
			{name: "verify", shape: &shape{
				kind: object, doc: "When a deployment counts as healthy.",
				keys: []key{
					{name: "timeout", shape: duration("How long the workloads may take to become ready."), fallback: "that of the environment"},
					{name: "tests", shape: &shape{kind: boolean, doc: "Run the tests of the chart (helm test)."}, fallback: "true"},
				},
			}},
		},
	}
}

func serviceTrigger() *shape {
	return &shape{
		kind: object, doc: "Which pushes run the service. What is pushed to a pull request or a release branch is not filtered by branch, and a release branch not by path.",
		keys: []key{
			{name: "batch", shape: &shape{kind: boolean, doc: "Pushes to a branch that arrive while a run of it is active are gathered into one next run, on every branch that runs the service. A release's branch and a pull request supersede."}, fallback: "false"},
			{name: "branches", shape: filter("Branches.", "every branch", refPattern())},
			{name: "tags", shape: filter("Tags. A tag that fits runs the service whatever changed.", "no tag", refPattern())},
			{name: "paths", shape: filter("Files. A push is skipped only if all changed files are left out.", "the service's folder and what its Dockerfile copies from elsewhere; its chart and dependsOn always count",
				&shape{kind: text, match: newPattern(patternExpr), most: 300, word: "a path from the repository's root; * and ? stand for what is in one part of it, ** for any parts", doc: "A folder with all in it, a file, or a pattern such as **/*.md."})},
		},
	}
}

func filter(doc, everything string, elem *shape) *shape {
	return &shape{
		kind: object, doc: doc,
		keys: []key{
			{name: "include", shape: &shape{kind: list, most: 100, word: "a list of patterns", doc: "What counts.", elem: elem}, fallback: everything},
			{name: "exclude", shape: &shape{kind: list, most: 100, word: "a list of patterns", doc: "What of it does not count.", elem: elem}, fallback: "nothing"},
		},
	}
}

func refPattern() *shape {
	return &shape{kind: text, match: newPattern(refExpr), most: 250, word: "a name in which * stands for any characters", doc: "A name in which * stands for any characters, slashes too: feature/*."}
}

func shared() *shape {
	return &shape{
		kind: table, keyWord: "folders", keyRule: "a path inside the repository with forward slashes", keyMatch: newPattern(pathExpr), most: 200, word: "folders and what they depend on",
		doc: "Shared folders that depend on others. A service that depends on one of them, or copies from it, depends on those too.",
		elem: &shape{kind: object, word: "dependsOn", doc: "A shared folder.", keys: []key{
			{name: "dependsOn", shape: &shape{
				kind: list, most: 20, word: "a list of paths", doc: "Folders and files that it depends on.",
				elem: &shape{kind: text, match: newPattern(dependsExpr), most: 300, word: "a path inside the repository", doc: "A folder or file."},
			}},
		}},
	}
}

func serviceTest() *shape {
	return &shape{
		kind: object, word: "stage, results, timeout, services", orFalse: "the service has no tests",
		doc: "How the tests of the service run: a stage of the Dockerfile whose entrypoint is run in a container.",
		keys: []key{
			{name: "stage", shape: stageName("Stage of the Dockerfile."), fallback: "testrunner"},
			{name: "results", shape: &shape{kind: text, match: newPattern(resultsExpr), most: 200, word: "a folder of the container, without ..", doc: "Folder of JUnit and TRX files, relative to the WORKDIR of the stage unless absolute. Also in the environment variable SLIPWAY_TEST_RESULTS."}, fallback: "TestResults"},
			{name: "timeout", shape: duration("How long the tests may take, their image included."), fallback: "10m"},
			{name: "services", shape: testServices()},
		},
	}
}

func environments() *shape {
	return &shape{
		kind: list, most: 50, word: "a list of environments in the order of promotion",
		doc:  "The environments, in the order in which a release is promoted. A list that is given replaces the standard one.",
		elem: environment(),
	}
}

func environment() *shape {
	return &shape{
		kind: object, word: "name, trigger, ...",
		doc: "An environment: a namespace of a registered cluster.",
		keys: []key{
			{name: "name", required: true, shape: nameText("Name of the environment.")},
			{name: "trigger", shape: &shape{kind: text, enum: []string{"default-branch", "release"}, doc: "What is deployed there: every merge to the default branch, or release branches."}, fallback: "release"},
			{name: "cluster", shape: nameText("Cluster, by the name under which it was registered."), fallback: "default"},
			{name: "namespace", shape: &shape{kind: text, match: newPattern(namespaceExpr), most: 63, word: "lower-case letters, digits and dashes, at most 63", doc: "Kubernetes namespace."}, fallback: "<project>-<environment>"},
			{name: "values", shape: &shape{
				kind: list, most: 20, word: "a list of files",
				doc:  "Further values files, relative to the chart's folder, after values.yaml and values-<environment>.yaml, which are used without being named.",
				elem: pathText("A values file of the chart."),
			}},
			{name: "production", shape: &shape{kind: boolean, doc: "Image and chart get their names in the production namespace of the registry before they are deployed, by the same digests."}, fallback: "false"},
			{name: "approvals", shape: &shape{
				kind: object, doc: "Who must agree before a deployment.",
				keys: []key{
					{name: "required", shape: count(20, "How many people must approve; 0 deploys at once."), fallback: "1 for production, else 0"},
					{name: "notRequester", shape: &shape{kind: boolean, doc: "Who started the run may not approve it."}, fallback: "false"},
				},
			}},
			{name: "timeout", shape: duration("How long the workloads may take to become ready."), fallback: "5m"},
			{name: "gates", shape: gates("What the gates demand in this environment, where it differs from the project's: each key overrides the same key of gates. Rules and waivers are added; a rule of the same name is replaced."), fallback: "those of the project; more is demanded of production"},
			{name: "historyMax", shape: &shape{kind: integer, min: 2, max: 100, word: "a whole number from 2 to 100", doc: "Helm revisions that are kept."}, fallback: "10"},
		},
	}
}

func registries() *shape {
	return &shape{
		kind: object, doc: "Where images and charts go.",
		keys: []key{
			{name: "candidates", shape: registry("What every build publishes.")},
			{name: "production", shape: registry("What production runs. Nothing but a promotion writes there.")},
		},
	}
}

func registry(doc string) *shape {
	return &shape{
		kind: object, doc: doc,
		keys: []key{
			{name: "host", shape: &shape{kind: text, match: newPattern(hostExpr), most: 253, word: "a host name, with :port if need be, and no scheme", doc: "Host in every reference, as the clusters reach it."}, fallback: "the server's own registry"},
			{name: "address", shape: &shape{kind: text, match: newPattern(addressExpr), most: 300, word: "https://host[:port]", doc: "Where Slipway itself reaches it, when that is another way; http for loopback only."}, fallback: "https at host"},
			{name: "prefix", shape: &shape{kind: text, match: newPattern(prefixExpr), most: 100, word: "lower-case path parts such as prod or team/prod", doc: "What stands before <project>/<service>."}, fallback: "none for candidates, prod for production"},
		},
	}
}

func pins() *shape {
	return &shape{
		kind: table, keyWord: "base images", keyRule: "an image reference such as golang:1.26-bookworm", keyMatch: newPattern(imageExpr), most: 200, word: "base images and their digests",
		doc:  "Base images that are used by digest, whatever their tag points to.",
		elem: &shape{kind: text, match: newPattern(digestExpr), word: "sha256: and 64 hexadecimal digits", doc: "Digest of the base image."},
	}
}

func pullRequests() *shape {
	return &shape{
		kind: object, doc: "When a pull request may be merged.",
		keys: []key{{name: "approvals", shape: count(20, "How many people must approve it."), fallback: "0"}},
	}
}

func limits() *shape {
	return &shape{
		kind: object, doc: "What bounds one run.",
		keys: []key{
			{name: "buildTimeout", shape: duration("How long the build of an image may take."), fallback: "30m"},
			{name: "deployTimeout", shape: duration("How long a deployment may take, until it is verified next."), fallback: "15m"},
			{name: "retries", shape: count(100, "Further attempts of a step after errors of the surroundings, each after a pause that doubles from a second to a minute: 5 go on for half a minute, 10 for 5 minutes, 65 for an hour. Red builds and tests are never retried, and a way back is tried at least 10 times."), fallback: "65"},
		},
	}
}

func nameText(doc string) *shape {
	return &shape{kind: text, match: newPattern(nameExpr), most: 40, word: "lower-case letters, digits and dashes, at most 40", doc: doc}
}

func pathText(doc string) *shape {
	return &shape{kind: text, match: newPattern(pathExpr), most: 300, word: "a path inside the repository with forward slashes, without .. or parts that begin with -", doc: doc}
}

func stageName(doc string) *shape {
	return &shape{kind: text, match: newPattern(stageExpr), most: 100, word: "the name of a stage: FROM ... AS name", doc: doc}
}

func duration(doc string) *shape {
	return &shape{kind: text, match: newPattern(durationExpr), most: 40, word: "a duration such as 90s, 5m or 1h30m", doc: doc}
}

func count(most int, doc string) *shape {
	return &shape{kind: integer, min: 0, max: most, doc: doc}
}
