//go:build !unix

package test

import "io/fs"

// links is how many names a file has, as far as that is known.
func links(fs.FileInfo) uint64 { return 1 }
