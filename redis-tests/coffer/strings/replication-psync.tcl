source tests/coffer/strings/data.tcl
source tests/integration/replication-psync.tcl
