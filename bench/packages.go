package main

import "context"

func measurePackages(ctx context.Context, w *world) ([]row, error) { return nil, nil }
