source tests/coffer/strings/data.tcl
source tests/integration/replication-2.tcl
