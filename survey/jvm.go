package survey

import (
	"cmp"
	"encoding/xml"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	gradleProject  = regexp.MustCompile(`\bproject\s*\(\s*(?:path\s*[:=]\s*)?["'](:[^"'\n]+)["']`)
	gradleAccessor = regexp.MustCompile(`\bprojects\.([A-Za-z0-9_.]+)`)
	gradlePlace    = regexp.MustCompile(`project\s*\(\s*["'](:[^"'\n]+)["']\s*\)\.projectDir\s*=\s*(?:new\s+)?[Ff]ile\s*\(\s*(?:[A-Za-z.]+\s*,\s*)?["']([^"'\n]+)["']`)
	gradleFiles    = []string{"build.gradle", "build.gradle.kts"}
)

// gradleBuild follows dependencies on projects of the same Gradle build.
func (t *tree) gradleBuild(dir string, add func(why, to string)) {
	for _, file := range gradleFiles {
		if !slices.Contains(t.files[dir], file) {
			continue
		}
		top, places := t.gradleTop(dir)
		text := t.read(path.Join(dir, file))
		for _, m := range gradleProject.FindAllStringSubmatch(text, -1) {
			to := cmp.Or(places[m[1]], strings.ReplaceAll(strings.TrimPrefix(m[1], ":"), ":", "/"))
			add(file+" needs project "+m[1], relative(dir, path.Join(top, to)))
		}
		for _, m := range gradleAccessor.FindAllStringSubmatch(text, -1) {
			if to := t.gradleFolder(top, m[1]); to != "" {
				add(file+" needs projects."+m[1], relative(dir, to))
			}
		}
	}
}

// gradleTop is the folder whose settings a folder's build has, and the projects that these place elsewhere.
func (t *tree) gradleTop(dir string) (top string, places map[string]string) {
	for at := dir; ; at = path.Dir(at) {
		for _, file := range []string{"settings.gradle", "settings.gradle.kts"} {
			if slices.Contains(t.files[at], file) {
				places = map[string]string{}
				for _, m := range gradlePlace.FindAllStringSubmatch(t.read(path.Join(at, file)), -1) {
					places[m[1]] = m[2]
				}
				return at, places
			}
		}
		if at == "." {
			return ".", nil
		}
	}
}

// gradleFolder is the folder of the project that an accessor names: projects.libs.coreMoney is libs/core-money,
// whatever joins its words.
func (t *tree) gradleFolder(top, accessor string) string {
	words := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "", "/", "").Replace(s))
	}
	for _, dir := range t.folders {
		rel := strings.TrimPrefix(dir, top+"/")
		if under(dir, top) && words(rel) == words(accessor) && slices.ContainsFunc(gradleFiles, func(f string) bool { return slices.Contains(t.files[dir], f) }) {
			return dir
		}
	}
	return ""
}

// mavenModule is what of a pom.xml matters.
type mavenModule struct {
	GroupID      string `xml:"groupId"`
	ArtifactID   string `xml:"artifactId"`
	Dependencies []struct {
		GroupID    string `xml:"groupId"`
		ArtifactID string `xml:"artifactId"`
	} `xml:"dependencies>dependency"`
}

// mavenModuleOf reads a folder's pom.xml, if it has one.
func (t *tree) mavenModuleOf(dir string) (mavenModule, bool) {
	var m mavenModule
	if !slices.Contains(t.files[dir], "pom.xml") {
		return m, false
	}
	return m, xml.Unmarshal([]byte(t.read(path.Join(dir, "pom.xml"))), &m) == nil && m.ArtifactID != ""
}

// mavenBuild follows dependencies on modules that the repository has.
func (t *tree) mavenBuild(dir string, add func(why, to string)) {
	m, ok := t.mavenModuleOf(dir)
	if !ok {
		return
	}
	if t.modules == nil {
		t.modules = map[string]string{}
		for _, folder := range t.folders {
			if other, ok := t.mavenModuleOf(folder); ok {
				t.modules[other.ArtifactID] = folder
			}
		}
	}
	for _, d := range m.Dependencies {
		if to := t.modules[d.ArtifactID]; to != "" && to != dir {
			add("pom.xml needs "+d.ArtifactID, relative(dir, to))
		}
	}
}
