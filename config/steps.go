package config

import (
	"bytes"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// DockerfileStep is an instruction of a Dockerfile that runs a command or moves files.
type DockerfileStep struct {
	Line  int
	Stage int    // of Dockerfile.Stages
	Dir   string // the WORKDIR there, absolute
	Run   string // the command of a RUN, as a shell would take it; "" for COPY and ADD
	From  string // stage or image that files come from; "" for the build context
	// Sources and Dest are those of COPY, ADD and RUN --mount, as written but for Dest, which is absolute where WORKDIR
	// says so. A mount is a step of its own.
	Sources []string
	Dest    string
	// Unclear: what it does is not all here, as for ONBUILD and for commands in here-documents.
	Unclear bool
}

// Steps are the instructions of a Dockerfile that run commands or move files, in their order; none of one that does not
// parse.
func Steps(data []byte) (out []DockerfileStep) {
	result, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	stage, dirs, names := -1, map[int]string{}, map[string]int{}
	for _, n := range result.AST.Children {
		instruction, err := instructions.ParseInstruction(n)
		if err != nil {
			return nil
		}
		if s, ok := instruction.(*instructions.Stage); ok {
			stage++
			dirs[stage] = "/"
			if base, ok := names[strings.ToLower(s.BaseName)]; ok {
				dirs[stage] = dirs[base]
			}
			names[strings.ToLower(s.Name)], names[strconv.Itoa(stage)] = stage, stage
			continue
		}
		if c, ok := instruction.(*instructions.WorkdirCommand); ok {
			dirs[stage] = at(dirs[stage], c.Path)
			continue
		}
		for _, step := range stepsOf(instruction, dirs[stage]) {
			step.Line, step.Stage, step.Dir = n.StartLine, stage, dirs[stage]
			out = append(out, step)
		}
	}
	return out
}

// at is a path as a stage in a folder sees it.
func at(dir, p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(dir, p)
}

func stepsOf(instruction any, dir string) (out []DockerfileStep) {
	moved := func(from string, files instructions.SourcesAndDest) DockerfileStep {
		return DockerfileStep{From: from, Sources: files.SourcePaths, Dest: at(dir, files.DestPath)}
	}
	switch c := instruction.(type) {
	case *instructions.CopyCommand:
		return []DockerfileStep{moved(c.From, c.SourcesAndDest)}
	case *instructions.AddCommand:
		return []DockerfileStep{moved("", c.SourcesAndDest)}
	case *instructions.OnbuildCommand:
		return []DockerfileStep{{Unclear: true}}
	case *instructions.RunCommand:
		asWritten := func(word string) (string, error) { return word, nil }
		if c.Expand(asWritten) != nil {
			return []DockerfileStep{{Unclear: true}}
		}
		for _, m := range instructions.GetMounts(c) {
			if m.Type == instructions.MountTypeBind {
				out = append(out, DockerfileStep{From: m.From, Sources: []string{m.Source}, Dest: at(dir, m.Target)})
			}
		}
		return append(out, DockerfileStep{Run: strings.Join(c.CmdLine, " "), Unclear: len(c.Files) > 0})
	}
	return nil
}
