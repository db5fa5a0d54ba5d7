package demo

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
)

func TestWhoLeavesAtTheDoorIsNoGuest(t *testing.T) {
	srv := atoll.NewServer(nil)
	defer srv.Close()
	c := newChat(srv, "ahe")
	web := httptest.NewServer(srv)
	defer web.Close()
	tab, err := client.Dial(t.Context(), web.URL, &client.Options{Auth: person{Tab: "t", Name: "Ada"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	var s *atoll.Socket
	c.mu.Lock()
	for s = range c.guests {
	}
	c.mu.Unlock()
	tab.Close()
	for deadline := time.Now().Add(10 * time.Second); len(c.clients()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the guest did not leave")
		}
	}
	if err := c.enter(t.Context(), s); err == nil { // as if the tab had been closed during it
		t.Error("got no error, want that of the welcome")
	}
	if n := len(c.clients()); n != 0 {
		t.Errorf("got %d guests, want none: OnDisconnect runs for nobody who was not let in", n)
	}
}
