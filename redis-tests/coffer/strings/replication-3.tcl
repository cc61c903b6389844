source tests/coffer/strings/data.tcl
source tests/integration/replication-3.tcl
