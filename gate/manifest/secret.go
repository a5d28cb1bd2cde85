package manifest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// plainSecrets looks for secrets in ConfigMaps, in Secrets made of the chart's values, in annotations, and in the
// environment and arguments of containers. What it says never contains the value.
func (f *finder) plainSecrets() {
	f.annotations([]string{"metadata"}, "", object(f.object.Fields["metadata"]))
	switch text(f.object.Fields["kind"]) {
	case "ConfigMap":
		f.configMap()
	case "Secret":
		f.secret()
	}
	p := podOf(f.object.Fields)
	if p == nil {
		return
	}
	if f.object.Fields["kind"] != "Pod" {
		f.annotations(p.metadataAt, " of its pods", p.metadata)
	}
	for _, c := range p.containers {
		for i, e := range list(c.fields["env"]) {
			variable := object(e)
			name, value := text(variable["name"]), scalar(variable["value"])
			at := below(c.at, "env", strconv.Itoa(i), "value")
			f.plain(at, "variable "+name+" of container "+c.name, name, value)
		}
		for _, field := range []string{"command", "args"} {
			for i, a := range list(c.fields[field]) {
				f.argument(below(c.at, field, strconv.Itoa(i)), c.name, text(a))
			}
		}
	}
}

func (f *finder) configMap() {
	data := object(f.object.Fields["data"])
	for _, key := range slices.Sorted(maps.Keys(data)) {
		f.plain([]string{"data", key}, "entry "+key, key, scalar(data[key]))
	}
	binary := object(f.object.Fields["binaryData"])
	for _, key := range slices.Sorted(maps.Keys(binary)) {
		if b, err := base64.StdEncoding.DecodeString(text(binary[key])); err == nil {
			f.plain([]string{"binaryData", key}, "entry "+key, key, string(b))
		}
	}
}

// annotations looks for secrets by their form alone: names of annotations are those of settings and checksums.
func (f *finder) annotations(at []string, of string, metadata map[string]any) {
	all := object(metadata["annotations"])
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if form := tokenForm(bounded(text(all[key]))); form != "" {
			f.add(PlainSecret, below(at, "annotations", key), fmt.Sprintf("annotation %s%s holds %s in plain text: refer to a Secret", key, of, form))
		}
	}
}

// maxText is how much of a value is looked at, in bytes: no ConfigMap may be larger.
const maxText = 1 << 20

func bounded(s string) string { return s[:min(len(s), maxText)] }

// plain reports a value that stands under a key.
func (f *finder) plain(at []string, what, key, value string) {
	if value == "" {
		return
	}
	value = bounded(value)
	if form := tokenForm(value); form != "" {
		f.add(PlainSecret, at, fmt.Sprintf("%s holds %s in plain text: refer to a Secret", what, form))
	} else if secretKey(key) && !strings.Contains(value, "\n") && secretValue(key, value) {
		f.add(PlainSecret, at, fmt.Sprintf("%s is a secret by its name, and stands there in plain text: refer to a Secret", what))
	} else if line := secretLine(value); line != "" {
		f.add(PlainSecret, at, fmt.Sprintf("%s has a setting %s, a secret by its name, in plain text: refer to a Secret", what, line))
	}
}

func (f *finder) argument(at []string, container, arg string) {
	what := fmt.Sprintf("container %s has an argument that", container)
	if form := tokenForm(arg); form != "" {
		f.add(PlainSecret, at, fmt.Sprintf("%s holds %s in plain text: refer to a Secret", what, form))
		return
	}
	name, value, found := strings.Cut(arg, "=")
	if found && strings.HasPrefix(name, "-") && secretKey(strings.TrimLeft(name, "-")) && secretValue(name, value) {
		f.add(PlainSecret, at, fmt.Sprintf("%s sets %s in plain text: refer to a Secret", what, name))
	}
}

// secret reports entries of a Secret whose values are the chart's own.
func (f *finder) secret() {
	kind := text(f.object.Fields["type"])
	if f.object.Generated || kind == "kubernetes.io/service-account-token" || strings.HasPrefix(kind, "helm.sh/") {
		return
	}
	for _, field := range []string{"data", "stringData"} {
		data := object(f.object.Fields[field])
		for _, key := range slices.Sorted(maps.Keys(data)) {
			value := text(data[key])
			if field == "data" {
				b, err := base64.StdEncoding.DecodeString(value)
				if err != nil {
					continue
				}
				value = string(b)
			}
			if strings.TrimSpace(value) == "" || reference(value) || tokenForm(value) == "" && publicKey(key) {
				continue
			}
			f.add(PlainSecret, []string{field, key}, fmt.Sprintf(
				"entry %s comes from the chart's own values or templates: all who read the repository have it; let something else make the Secret, and refer to it", key))
		}
	}
}

// publicKey tells entries of Secrets that stand beside the secret one.
func publicKey(key string) bool {
	if strings.HasSuffix(key, ".crt") || strings.HasSuffix(key, ".pub") {
		return true
	}
	w := words(key)
	return len(w) > 0 && slices.Contains([]string{"user", "username", "login", "host", "hostname", "port", "database", "dbname", "db", "name",
		"email", "region", "bucket", "endpoint", "namespace", "type", "url", "uri", "server", "schema", "sslmode", "path"}, w[len(w)-1])
}

// forms of secrets that are known by how they look. A text without one of parts is not looked at closer.
var forms = []struct {
	what  string
	parts []string
	expr  *regexp.Regexp
}{
	{"a private key", []string{"PRIVATE KEY"}, regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----`)},
	{"an access key of AWS", []string{"AKIA", "ASIA"}, regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z2-7]{16}\b`)},
	{"a token of GitHub", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})`)},
	{"a token of GitLab", []string{"glpat-", "glrt-", "gldt-", "glcbt-", "glptt-", "glsoat-", "glft-", "glimt-", "glagent-"}, regexp.MustCompile(`\bgl(?:pat|rt|dt|cbt|ptt|soat|ft|imt|agent)-[A-Za-z0-9_-]{20,}`)},
	{"a token of Slack", []string{"xox", "hooks.slack.com"}, regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{16,}`)},
	{"a key of Google", []string{"AIza"}, regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}\b`)},
	{"a key of Stripe", []string{"k_live_"}, regexp.MustCompile(`\b[sr]k_live_[A-Za-z0-9]{16,}`)},
	{"a token of npm", []string{"npm_"}, regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}\b`)},
	{"a token of PyPI", []string{"pypi-"}, regexp.MustCompile(`\bpypi-[A-Za-z0-9_-]{50,}`)},
	{"a key of SendGrid", []string{"SG."}, regexp.MustCompile(`\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{40,}`)},
	{"a token of DigitalOcean", []string{"_v1_"}, regexp.MustCompile(`\bdo[opr]_v1_[a-f0-9]{64}\b`)},
	{"a token of Hugging Face", []string{"hf_"}, regexp.MustCompile(`\bhf_[A-Za-z0-9]{34,}`)},
	{"a key of Anthropic or OpenAI", []string{"sk-"}, regexp.MustCompile(`\bsk-(?:ant-|proj-)[A-Za-z0-9_-]{32,}`)},
	{"a token of Vault", []string{"hvs.", "hvb.", "hvr."}, regexp.MustCompile(`\bhv[sbr]\.[A-Za-z0-9_-]{24,}`)},
	{"an age key", []string{"AGE-SECRET-KEY-1"}, regexp.MustCompile(`\bAGE-SECRET-KEY-1[A-Z0-9]{50,}`)},
	{"a key of Azure storage", []string{"AccountKey="}, regexp.MustCompile(`\bAccountKey=[A-Za-z0-9+/]{40,}={0,2}`)},
	{"a signed token (JWT)", []string{".eyJ"}, regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}`)},
}

var userInfo = regexp.MustCompile(`\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@"'?#]*:([^\s/@"'?#]+)@[^\s/@"']`)

// tokenForm names the kind of secret that a text holds by its form, or "".
func tokenForm(s string) string {
	if len(s) < 8 {
		return ""
	}
	for _, f := range forms {
		has := func(part string) bool { return strings.Contains(s, part) }
		if slices.ContainsFunc(f.parts, has) && f.expr.MatchString(s) {
			return f.what
		}
	}
	if !strings.Contains(s, "://") {
		return ""
	}
	for _, m := range userInfo.FindAllStringSubmatch(s, -1) {
		if !reference(m[1]) && !filler(m[1]) {
			return "a URL with a password"
		}
	}
	return ""
}

var settingExpr = regexp.MustCompile(`(?m)^\s*(?:export\s+|-\s+)?"?([A-Za-z][A-Za-z0-9_.-]*)"?\s*[=:][ \t]*(.+?)\s*,?$`)

// secretLine names a setting of a file (properties, YAML, INI, JSON) that is a secret by its name.
func secretLine(file string) string {
	if !strings.Contains(file, "\n") {
		return ""
	}
	for _, m := range settingExpr.FindAllStringSubmatch(file, -1) {
		key := m[1][strings.LastIndexByte(m[1], '.')+1:]
		value := strings.Trim(m[2], `"'`)
		if secretKey(key) && secretValue(key, value) && !strings.ContainsAny(value, " ;{}()[]") {
			return m[1]
		}
	}
	return ""
}

// NamesSecret reports whether a key says by its name that its value is a secret.
func NamesSecret(key string) bool { return secretKey(key) }

// scalar is a text or a number that should have been one.
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// secretKey reports whether a name says that its value is a secret: what its last words are, since
// TOKEN_URL or passwordFile are none.
func secretKey(key string) bool {
	w := words(key)
	if len(w) == 0 {
		return false
	}
	last := w[len(w)-1]
	switch last {
	case "password", "passwd", "pwd", "passphrase", "secret", "apikey", "secretkey", "privatekey", "accesstoken", "authtoken", "credential":
		return true
	case "pass":
		return len(w) > 1 && slices.Contains([]string{"db", "database", "smtp", "mail", "user", "admin", "root", "auth", "mysql", "postgres", "redis", "mongo", "rabbitmq", "ftp", "ldap", "login"}, w[len(w)-2])
	case "base": // of Rails
		return len(w) > 2 && w[len(w)-2] == "key" && w[len(w)-3] == "secret"
	case "token":
		return len(w) == 1 || !slices.Contains([]string{"max", "min", "next", "per", "page", "pad", "end", "start", "cancellation", "proxy", "csrf", "first", "second", "by"}, w[len(w)-2])
	case "key":
		return len(w) > 1 && slices.Contains([]string{"api", "secret", "access", "private", "encryption", "signing", "master", "account", "auth", "hmac", "aes"}, w[len(w)-2])
	}
	return false
}

// words splits DB_PASSWORD, dbPassword and db-password alike.
func words(key string) []string {
	var out []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			out = append(out, strings.ToLower(b.String()))
			b.Reset()
		}
	}
	runes := []rune(key)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
			continue
		case unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsUpper(runes[i-1]) && unicode.IsLower(runes[i+1])):
			flush()
		}
		b.WriteRune(r)
	}
	flush()
	return out
}

var nameExpr = regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`)

// secretValue reports whether a value under the name of a secret can be one: no switch, no number of
// seconds, no path, and no reference to where the secret is.
func secretValue(key, value string) bool {
	value = strings.TrimSpace(value)
	if len(value) < 3 || filler(value) || reference(value) {
		return false
	}
	w := words(key)
	if _, err := strconv.ParseFloat(value, 64); err == nil {
		return slices.Contains([]string{"password", "passwd", "pwd"}, w[len(w)-1])
	}
	// tls-secret: web-tls is the name of one.
	return w[len(w)-1] != "secret" || !nameExpr.MatchString(value)
}

// filler is what stands where no secret is.
func filler(value string) bool {
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off", "null", "none", "nil", "enabled", "disabled", "optional", "required", "redacted", "unset", "undefined":
		return true
	}
	return strings.Trim(value, "*") == "" || strings.Trim(strings.ToLower(value), "x") == "" || strings.Trim(value, ".") == "" || strings.Trim(value, "-") == ""
}

var variableExpr = regexp.MustCompile(`^(?:\$[A-Za-z_][A-Za-z0-9_]*|%[A-Z0-9_]+%)$`)

var schemeExpr = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://`)

// reference is a value that says where the secret is.
func reference(value string) bool {
	value = strings.TrimSpace(value)
	for _, mark := range []string{"${", "$(", "{{", "<%", "ENC[", "%("} {
		if strings.Contains(value, mark) {
			return true
		}
	}
	for _, begin := range []string{"/", "./", "../", "~/", "<", "vault:", "ref+", "op:", "arn:", "file:", "env:", "projects/", `C:\`, "AgB"} {
		if strings.HasPrefix(value, begin) {
			return true
		}
	}
	return variableExpr.MatchString(value) || schemeExpr.MatchString(value) && !userInfo.MatchString(value)
}
