package demo

import "testing"

func TestLateReportIsNotCountedTwice(t *testing.T) {
	sup := newTestSupervisor(t, "serves", 0)
	o := newObserver(nil, sup, "", "")
	defer o.srv.Close()
	if err := sup.Start("a"); err != nil {
		t.Fatal(err)
	}
	r := Report{Name: "a", PID: await(t, sup, Up).PID, Delivered: 10}
	if err := o.heard(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := sup.Kill("a"); err != nil {
		t.Fatal(err)
	}
	await(t, sup, Down)
	for range 2 { // the bus may bring what a node wrote after its end was seen
		if got := o.view().Delivered; got != 10 {
			t.Errorf("got %d deliveries, want 10", got)
		}
		if err := o.heard(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}
