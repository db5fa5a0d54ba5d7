// Package rawio reads from and writes to descriptors that do not block, as cheaply as the system allows: on
// Linux without telling the Go scheduler, since a call that returns at once needs nobody to take over meanwhile.
// Telling it wakes the runtime's monitor thread each time that an idle process gets a
// message, which costs more than the message itself.
//
// Errors are those of package syscall; EAGAIN says that the call would have had to wait. The
// descriptor must not be closed during a call: use a [syscall.RawConn], or own it.
package rawio
