source tests/coffer/strings/data.tcl
# Outside of tests: a handshake that is held up, functions, DEBUG POPULATE for transfers that are slow.
source_without tests/integration/replication.tcl {{Slave enters handshake} {function load} {debug populate}}
