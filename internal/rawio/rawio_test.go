//go:build unix

package rawio

import (
	"bytes"
	"os"
	"syscall"
	"testing"
)

// pair returns two ends of a stream that do not block.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	return fds[0], fds[1]
}

func TestReadAndWrite(t *testing.T) {
	if !Can {
		t.Fatal("this system can")
	}
	a, b := pair(t)
	defer syscall.Close(b)
	buf := make([]byte, 16)
	if n, err := Read(b, buf); n != 0 || err != syscall.EAGAIN {
		t.Errorf("nothing there: got %d, %v; want 0, EAGAIN", n, err)
	}
	if n, err := Write(a, []byte("hello")); n != 5 || err != nil {
		t.Errorf("got %d, %v; want 5", n, err)
	}
	if n, err := Read(b, buf[:2]); string(buf[:n]) != "he" || err != nil {
		t.Errorf("got %q, %v; want he", buf[:n], err)
	}
	if n, err := Read(b, buf); string(buf[:n]) != "llo" || err != nil {
		t.Errorf("got %q, %v; want llo", buf[:n], err)
	}
	if n, err := Write(a, nil); n != 0 || err != nil {
		t.Errorf("nothing to write: got %d, %v; want 0", n, err)
	}
	if n, err := Read(b, nil); n != 0 || err != nil {
		t.Errorf("no room: got %d, %v; want 0", n, err)
	}
	syscall.Close(a)
	if n, err := Read(b, buf); n != 0 || err != nil {
		t.Errorf("at the end: got %d, %v; want 0, nil", n, err)
	}
}

// A stream takes as much as it has room for, with calls short and long, and then has it all.
func TestFull(t *testing.T) {
	for _, size := range []int{1000, 64 << 10, 64<<10 + 1, 1 << 20} {
		a, b := pair(t)
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		var sent, got []byte
		for {
			n, err := Write(a, data)
			sent = append(sent, data[:n]...)
			if err == syscall.EAGAIN {
				if n != 0 {
					t.Errorf("size %d: got %d with EAGAIN, want 0", size, n)
				}
				break
			}
			if err != nil || n <= 0 || n > size {
				t.Fatalf("size %d: got %d, %v", size, n, err)
			}
		}
		syscall.Close(a)
		for buf := make([]byte, size); ; {
			n, err := Read(b, buf)
			if err != nil {
				t.Fatalf("size %d: %v", size, err)
			}
			if n == 0 {
				break
			}
			got = append(got, buf[:n]...)
		}
		syscall.Close(b)
		if !bytes.Equal(got, sent) {
			t.Errorf("size %d: got %d bytes, not the %d that were sent", size, len(got), len(sent))
		}
	}
}

func TestErrors(t *testing.T) {
	for _, size := range []int{10, 64<<10 + 1} {
		b := make([]byte, size)
		if n, err := Read(-1, b); n != 0 || err != syscall.EBADF {
			t.Errorf("got %d, %v; want 0, EBADF", n, err)
		}
		if n, err := Write(-1, b); n != 0 || err != syscall.EBADF {
			t.Errorf("got %d, %v; want 0, EBADF", n, err)
		}
	}
	x, y := pair(t)
	defer syscall.Close(x)
	syscall.Close(y)
	if n, err := Write(x, []byte("x")); n != 0 || err != syscall.EPIPE {
		t.Errorf("nobody reads: got %d, %v; want 0, EPIPE", n, err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if n, err := Read(int(dir.Fd()), make([]byte, 10)); n != 0 || err != syscall.EISDIR {
		t.Errorf("a directory: got %d, %v; want 0, EISDIR", n, err)
	}
}

// What has to wait, and what need not, costs no memory.
func TestNoAllocations(t *testing.T) {
	a, b := pair(t)
	defer syscall.Close(a)
	defer syscall.Close(b)
	buf := make([]byte, 10)
	if n := testing.AllocsPerRun(100, func() {
		Read(b, buf)
		Write(a, buf)
		Read(b, buf)
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
