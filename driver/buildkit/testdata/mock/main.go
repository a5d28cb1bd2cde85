// Command mock is a service, and a client of it, for tests: it needs neither a shell nor a resolver of libc.
//
//	mock serve ADDRESS TEXT      says the text to whoever connects
//	mock ask ADDRESS             prints what is said there
//	mock after SECONDS CODE ...  does the rest of the line in the background, and ends with the code
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "serve":
		return serve(args[1], args[2])
	case len(args) == 2 && args[0] == "ask":
		return ask(args[1])
	case len(args) > 3 && args[0] == "after":
		return after(args[1], args[2], args[3:])
	}
	return fmt.Errorf("mock: what is %q?", args)
}

func serve(address, text string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("serving", text)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(c, text)
		c.Close()
	}
}

func ask(address string) error {
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(os.Stdout, c)
	return err
}

func after(seconds, code string, args []string) error {
	wait, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	status, err := strconv.Atoi(code)
	if err != nil {
		return err
	}
	go func() { fmt.Println(run(args)) }()
	time.Sleep(time.Duration(wait) * time.Second)
	fmt.Println("out of memory")
	os.Exit(status)
	return nil
}
