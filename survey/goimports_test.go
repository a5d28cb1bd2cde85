package survey_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/survey"
)

// oneModule is a repository with one go.mod, of which two services are built.
func oneModule() map[string]string {
	return map[string]string{
		"go.mod": "module example.com/shop\n\nreplace example.com/money => ./third/money\n", "go.sum": "x\n",
		"root.go":                    "package shop\n",
		"cmd/api/main.go":            "package main\n\nimport (\n\t\"fmt\"\n\t\"example.com/shop/internal/x\"\n)\n\nfunc main() { fmt.Println(x.X) }\n",
		"cmd/api/sub/s.go":           "package sub\n",
		"cmd/worker/main.go":         "package main\n\nimport _ \"example.com/shop/pkg/z\"\n",
		"internal/x/x.go":            "package x\n\nimport \"example.com/shop/pkg/y\"\n",
		"internal/x/x_windows.go":    "//go:build windows\n\npackage x\n\nimport \"example.com/shop/internal/win\"\n",
		"internal/x/x_test.go":       "package x\n\nimport \"example.com/shop/internal/testing/fake\"\n",
		"internal/x/testdata/t.go":   "package t\n\nimport \"example.com/shop/pkg/never\"\n",
		"internal/x/more/m.go":       "package more\n\nimport \"example.com/shop/pkg/never\"\n",
		"internal/win/w.go":          "package win\n",
		"internal/testing/fake/f.go": "package fake\n",
		"pkg/y/y.go":                 "package y\n\nimport (\n\t\"example.com/shop/pkg/y/deep\"\n\t\"example.com/money/cents\"\n\t\"example.com/shop/pkg/gone\"\n\t\"example.com/shop/pkg/other\"\n)\n",
		"pkg/y/deep/d.go":            "package deep\n",
		"pkg/other/go.mod":           "module example.com/shop/pkg/other\n",
		"pkg/other/o.go":             "package other\n",
		"pkg/z/z.go":                 "package z\n\nthis does not parse",
		"pkg/never/n.go":             "package never\n",
		"third/money/go.mod":         "module example.com/money\n",
		"third/money/cents/c.go":     "package cents\n",
		"cmd/api/Dockerfile":         whole,
		"cmd/worker/Dockerfile":      "FROM golang AS build\nWORKDIR /src\nCOPY go.mod go.sum ./\nCOPY cmd/worker cmd/worker\nCOPY pkg pkg\nRUN go build -o /worker ./cmd/worker\nFROM scratch\nCOPY --from=build /worker /\nEXPOSE 80\n",
	}
}

const whole = `FROM golang AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/root/.cache go mod download && apk add --no-cache git
COPY . .
RUN CGO_ENABLED=0 go build -ldflags="-s -w" -o /api ./cmd/api
FROM scratch
COPY --from=build /api /api
EXPOSE 80
`

func settingsOf(t *testing.T, texts map[string]string, service string) (settings []string, svc survey.Service) {
	t.Helper()
	s, err := survey.Look(files(texts), "shop")
	if err != nil || len(s.Problems) > 0 {
		t.Fatalf("%v: %+v\nof\n%s", err, s.Problems, s.File)
	}
	i := slices.IndexFunc(s.Services, func(x survey.Service) bool { return x.Name == service })
	if i < 0 {
		t.Fatalf("no service %s: %+v", service, s)
	}
	for _, set := range s.Services[i].Settings {
		settings = append(settings, set.Key+"="+set.Value+strings.Join(set.List, ","))
	}
	return settings, s.Services[i]
}

// A service of a module with others is made of the packages that it imports, on any way, and of no others: where its
// Dockerfile copies everything, that is written down; where it copies them, nothing has to be.
func TestImportsWithinOneModule(t *testing.T) {
	t.Parallel()
	got, api := settingsOf(t, oneModule(), "api")
	want := []string{"trigger={paths: {include: [/cmd/api/, /go.mod, /go.sum]}}", "dependsOn=internal/testing/fake,internal/win,internal/x,pkg/y,third/money"}
	if !slices.Equal(got, want) {
		t.Errorf("api is written with\n%q, want\n%q", got, want)
	}
	why := map[string]string{}
	for _, d := range api.DependsOn {
		why[d.Path] = d.Why
	}
	if why["pkg/y"] != "internal/x/x.go imports it" || why["internal/x"] != "cmd/api/main.go imports it" || why["third/money"] != "pkg/y/y.go imports it" {
		t.Errorf("the reasons are %q", why)
	}
	if !strings.HasPrefix(api.Settings[0].Why, "line 5 of its Dockerfile copies all of the repository") || !strings.Contains(api.Settings[0].Why, "other changes start no build") {
		t.Errorf("the reason is %q", api.Settings[0].Why)
	}
	got, worker := settingsOf(t, oneModule(), "worker")
	if len(got) > 0 || !slices.ContainsFunc(worker.DependsOn, func(d survey.Dependency) bool { return d.Path == "pkg/z" && d.Why == "cmd/worker/main.go imports it" }) {
		t.Errorf("worker is written with %q, and depends on %+v", got, worker.DependsOn)
	}
}

// With what is written, exactly those services run whose packages changed.
func TestImportsDecideWhatRuns(t *testing.T) {
	t.Parallel()
	texts := oneModule()
	s, err := survey.Look(files(texts), "shop")
	if err != nil {
		t.Fatal(err)
	}
	texts[config.Name] = s.File
	c, problems := config.LoadServices(files(texts), config.Options{Project: "shop"})
	if err := problems.Err(); err != nil {
		t.Fatalf("%v\nof\n%s", err, s.File)
	}
	for file, want := range map[string][]string{
		"cmd/api/main.go": {"api"}, "internal/x/x.go": {"api"}, "internal/win/w.go": {"api"}, "third/money/cents/c.go": {"api"},
		"pkg/y/deep/d.go": {"api", "worker"}, "pkg/z/z.go": {"worker"}, "go.sum": {"api", "worker"}, "cmd/worker/main.go": {"worker"},
		"README.md": nil, "web/index.html": nil, "cmd/api/Dockerfile": {"api"},
	} {
		a := plan.Affected(plan.Question{Event: slipway.BranchPush, Ref: "refs/heads/x", DefaultBranch: "main", Config: c, Since: []plan.Since{{Config: &c, Files: []string{file}, Commit: "1"}}})
		var runs []string
		for _, name := range slices.Sorted(maps.Keys(a.Changes)) {
			if a.Changes[name].Changed {
				runs = append(runs, name)
			}
		}
		if !slices.Equal(runs, want) {
			t.Errorf("%s runs %q, want %q", file, runs, want)
		}
	}
}

// What a build that copies everything may use besides Go packages keeps it from being narrowed, and is said.
func TestWholeContextThatMayBeUsed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dockerfile string
		more       map[string]string
		doubt      string // "": it is narrowed
		include    string // that is then among what counts
	}{
		"a command":       {dockerfile: strings.Replace(whole, "RUN CGO", "RUN make gen\nRUN CGO", 1), doubt: "line 6 runs make"},
		"a substitution":  {dockerfile: strings.Replace(whole, "-s -w", "-X main.v=$(cat VERSION)", 1), doubt: "line 6 runs commands within another"},
		"all packages":    {dockerfile: strings.Replace(whole, "./cmd/api", "./cmd/...", 1), doubt: "line 6 builds ./cmd/..."},
		"a profile":       {dockerfile: strings.Replace(whole, "-o /api", "-pgo=prof/x -o /api", 1), doubt: "line 6 runs go with -pgo=prof/x"},
		"a generator":     {dockerfile: strings.Replace(whole, "RUN CGO", "RUN go generate ./...\nRUN CGO", 1), doubt: "line 6 runs go"},
		"all in the end":  {dockerfile: strings.Split(whole, "FROM scratch")[0] + "EXPOSE 80\n", doubt: "the image holds all of it"},
		"all copied on":   {dockerfile: strings.Replace(whole, "--from=build /api /api", "--from=build /src /x", 1), doubt: "line 8 copies all of it on"},
		"C":               {dockerfile: whole, more: map[string]string{"pkg/y/c.go": "package y\n\nimport \"C\"\n"}, doubt: "pkg/y/c.go is compiled with C"},
		"files of it":     {dockerfile: strings.Replace(whole, "--from=build /api /api", "--from=build /src/migrations /m", 1), more: map[string]string{"migrations/1.sql": ""}, include: "/migrations"},
		"another package": {dockerfile: strings.Replace(whole, "./cmd/api", "./cmd/api ./cmd/migrate", 1), more: map[string]string{"cmd/migrate/m.go": "package main\n"}, include: "dependsOn=cmd/migrate,"},
		"its root":        {dockerfile: whole, more: map[string]string{"cmd/api/r.go": "package main\n\nimport \"example.com/shop\"\n"}, include: `/*.go`},
		"an embedding root": {dockerfile: whole, more: map[string]string{"cmd/api/r.go": "package main\n\nimport \"example.com/shop\"\n", "root.go": "package shop\n\n//go:embed web\nvar x string\n"},
			doubt: "root.go embeds files"},
		"one of it by name": {dockerfile: whole + "COPY etc/app.yaml /etc/\n", more: map[string]string{"etc/app.yaml": ""}, include: "/etc/app.yaml"},
		"a vendor folder":   {dockerfile: whole, more: map[string]string{"vendor/modules.txt": ""}, include: "/vendor/"},
		"a tool":            {dockerfile: strings.Replace(whole, "RUN CGO", "RUN go install example.com/tool@v1.2.3\nRUN CGO", 1), include: "/go.mod"},
	} {
		texts := oneModule()
		maps.Copy(texts, c.more)
		texts["cmd/api/Dockerfile"] = c.dockerfile
		got, api := settingsOf(t, texts, "api")
		missing := strings.Join(api.Missing, "\n")
		switch {
		case c.doubt != "" && (len(got) > 0 || !strings.Contains(missing, "internal/x") || !strings.Contains(missing, "its build may use more, as "+c.doubt)):
			t.Errorf("%s: written with %q, missing\n%s", name, got, missing)
		case c.doubt == "" && (len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), c.include) || strings.Contains(missing, "every change")):
			t.Errorf("%s: written with %q, missing\n%s", name, got, missing)
		}
	}
}

// Where .dockerignore allows a build only what it needs, nothing is to be narrowed. What a build does not see is told.
func TestImportsThatAreNarrowOrNotSeen(t *testing.T) {
	t.Parallel()
	texts := oneModule()
	texts[".dockerignore"] = "*\n!go.*\n!cmd/api\n!internal\n!pkg\n!third\n"
	if got, api := settingsOf(t, texts, "api"); len(got) > 0 || strings.Contains(strings.Join(api.Missing, "\n"), "every change") {
		t.Errorf("written with %q, missing %q", got, api.Missing)
	}
	texts = oneModule()
	texts["cmd/api/Dockerfile"] = "FROM golang\nCOPY . .\nRUN go build .\nEXPOSE 80\n"
	got, api := settingsOf(t, texts, "api")
	if !slices.Equal(got, []string{"dependsOn=internal/testing/fake,internal/win,internal/x,pkg/y,third/money"}) || !strings.Contains(strings.Join(api.Missing, "\n"), "its build does not see internal/testing/fake, internal/win, internal/x") {
		t.Errorf("written with %q, missing %q", got, api.Missing)
	}
}

// A Dockerfile in a folder of its own is of the packages that it builds.
func TestImportsOfWhatADockerfileBuilds(t *testing.T) {
	t.Parallel()
	texts := oneModule()
	delete(texts, "cmd/api/Dockerfile")
	texts["images/front/Dockerfile"] = whole
	got, _ := settingsOf(t, texts, "front")
	if want := "dependsOn=cmd/api,internal/testing/fake,internal/win,internal/x,pkg/y,third/money"; len(got) != 2 || got[1] != want {
		t.Errorf("written with %q, want %s", got, want)
	}
}
