package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == renderCommand { // a server of these tests renders a chart
		main()
		return
	}
	testscript.Main(m, map[string]func(){"slipway": main})
}
