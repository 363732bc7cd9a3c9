// Prints the time of day; a Go program asks the vDSO and knows no libc.
package main

import (
	"fmt"
	"time"
)

func main() {
	before := time.Now()
	time.Sleep(time.Millisecond)
	fmt.Println(before.UTC().Format(time.RFC3339Nano))
	fmt.Println(time.Since(before) > 0)
}
