package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

// saveAttachments saves the attachments of a run's reports below a folder, under the names that they had in
// the results folder; those of each step in a folder of its service.
func (c *cli) saveAttachments(ctx context.Context, f testFlags, services []string) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	id, err := c.runID(ctx, api, []string{f.run})
	if err != nil {
		return err
	}
	tests, err := api.RunTests(ctx, id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.save, 0o755); err != nil {
		return fmt.Errorf("save attachments: %w", err)
	}
	root, err := os.OpenRoot(f.save)
	if err != nil {
		return fmt.Errorf("save attachments: %w", err)
	}
	defer root.Close()
	n := 0
	for _, s := range tests.Steps {
		if len(services) > 0 && s.Service != services[0] {
			continue
		}
		for _, a := range s.Report.Attachments {
			if err := saveAttachment(ctx, api, root, id, path.Join(s.Service, a.Name), a.Digest); err != nil {
				return fmt.Errorf("save %s: %w", a.Name, err)
			}
			n++
		}
	}
	if !c.out.json {
		c.out.line("\nattachments saved in %s: %d", f.save, n)
	}
	return nil
}

// saveAttachment writes one file. Its name was chosen by a test: it stays in the folder, and nothing that is
// there is written over.
func saveAttachment(ctx context.Context, api *client.Client, root *os.Root, run int64, name, digest string) error {
	name = filepath.FromSlash(name)
	if !filepath.IsLocal(name) {
		return slipway.Errorf(slipway.Invalid, "%q is no name in a folder", name)
	}
	in, err := api.Attachment(ctx, run, digest)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return slipway.Errorf(slipway.Conflict, "%s is there already; choose an empty folder", filepath.Join(root.Name(), name))
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
