// Goroutines that make calls while they are preempted by signals, start programs, and handle signals themselves.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(40 + len(os.Args))
	}
	var group sync.WaitGroup
	var lock sync.Mutex
	good := 0
	for worker := 0; worker < 8; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			right := 0
			for i := 0; i < 500; i++ {
				if syscall.Getppid() == os.Getppid() {
					right++
				}
				if i%100 == 0 {
					// Preempted by a signal when another one is to run.
					for n := 0; n < 3000000; n++ {
						right += n & 0
					}
				}
			}
			lock.Lock()
			good += right
			lock.Unlock()
		}()
	}
	group.Wait()
	fmt.Println("calls:", good)

	received := make(chan os.Signal, 10)
	signal.Notify(received, syscall.SIGUSR1, syscall.SIGSYS)
	for _, number := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGSYS} {
		syscall.Kill(syscall.Getpid(), number)
		fmt.Println("signal:", <-received)
	}
	for i := 0; i < 5; i++ {
		err := exec.Command("/proc/self/exe", "again").Run()
		fmt.Println("child:", err)
	}
	_, err := os.Open("/nowhere")
	fmt.Println(err)
	var pointer *int
	defer func() { fmt.Println("recovered:", recover()) }()
	*pointer = 1
}
