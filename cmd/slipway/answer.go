package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway/client"
)

// question is what a command asks the server with.
type question struct {
	api     *client.Client
	project string // of commands about one project
	args    []string
}

// answer makes a command of a question to the server and of how people are shown what it answered;
// programs get it as JSON.
func answer[T any](c *cli, ask func(ctx context.Context, q question) (T, error), show func(q question, v T)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		api, err := c.client()
		if err != nil {
			return err
		}
		return answered(cmd.Context(), c, question{api: api, args: args}, ask, show)
	}
}

// inProject is answer for a command about one project, which it finds out first.
func inProject[T any](c *cli, ask func(ctx context.Context, q question) (T, error), show func(q question, v T)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		api, err := c.client()
		if err != nil {
			return err
		}
		project, err := c.project(cmd.Context(), api)
		if err != nil {
			return err
		}
		return answered(cmd.Context(), c, question{api: api, project: project, args: args}, ask, show)
	}
}

func answered[T any](ctx context.Context, c *cli, q question, ask func(context.Context, question) (T, error), show func(question, T)) error {
	v, err := ask(ctx, q)
	if err != nil {
		return err
	}
	if done, err := c.out.value(v); done {
		return err
	}
	show(q, v)
	return nil
}
