// Command program is what the tests look into: it has a module with a version.
package main

import "github.com/google/uuid"

func main() { println(uuid.NewString()) }
