package main

import "context"

func measureMemory(ctx context.Context, w *world) ([]row, error) { return nil, nil }
