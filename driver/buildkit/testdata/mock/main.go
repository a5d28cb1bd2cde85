// Command mock is a service, and a client of it, for tests: it needs neither a shell nor a resolver of libc.
//
//	mock serve ADDRESS TEXT      says the text to whoever connects
//	mock ask ADDRESS             prints what is said there
//	mock dies CODE ADDRESS       ends with the code when it is told to
//	mock kill ADDRESS            tells it, and returns when it did
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
	case len(args) == 3 && args[0] == "dies":
		return dies(args[1], args[2])
	case len(args) == 2 && args[0] == "kill":
		return kill(args[1])
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
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(os.Stdout, c)
	return err
}

func dies(code, address string) error {
	status, err := strconv.Atoi(code)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("serving for a while")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { // who only looks whether the port is open hangs up
			if n, _ := c.Read(make([]byte, 1)); n == 1 {
				fmt.Println("out of memory")
				os.Exit(status)
			}
		}()
	}
}

func kill(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, c) // until it is gone
	return nil
}
