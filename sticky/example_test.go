package sticky_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/atollhq/atoll/sticky"
)

func Example() {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `0{"sid":"lv_VI97HAXpY6yYWAAAC"}`) // stands for a Socket.IO server
	}))
	defer node.Close()

	balancer, err := sticky.New(&sticky.Options{
		Backends: []sticky.Backend{{URL: node.URL, Name: "one"}},
		Policy:   sticky.LeastConnections,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer balancer.Close()
	front := httptest.NewUnstartedServer(balancer)
	front.Config.ReadHeaderTimeout = 10 * time.Second
	front.Start()
	defer front.Close()

	resp, err := http.Get(front.URL + "/socket.io/?EIO=4&transport=polling")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	for _, b := range balancer.Status().Backends {
		fmt.Println(b.Name, b.State, b.Sessions)
	}
	// Output: one up 1
}
