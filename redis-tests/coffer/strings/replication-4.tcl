source tests/coffer/strings/data.tcl
# min-slaves-to-write for scripts; for all else it is in replication-2.
source_without tests/integration/replication-4.tcl {FUNCTION}
