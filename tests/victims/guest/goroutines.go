// A hundred goroutines that compute for longer than they may without being preempted, and sleep.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

func main() {
	var wait sync.WaitGroup
	var lock sync.Mutex
	sum := 0
	runtime.GOMAXPROCS(4)
	for i := 0; i < 100; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			x := 0
			for j := 0; j < 300000; j++ {
				x += j % 7
			}
			lock.Lock()
			sum += x + i
			lock.Unlock()
			time.Sleep(time.Millisecond)
		}(i)
	}
	spinning := make(chan bool)
	go func() {
		for i := 0; i >= 0; i++ { // no call in here: only a signal preempts it
			if i == 100000000 {
				i = 0
			}
		}
		spinning <- true
	}()
	time.Sleep(30 * time.Millisecond)
	runtime.GC()
	wait.Wait()
	defer func() {
		fmt.Println("recovered:", recover())
		fmt.Println("sum", sum)
		os.Exit(5)
	}()
	var nothing *int
	fmt.Println(*nothing)
}
