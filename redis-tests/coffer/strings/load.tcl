# What start_bg_complex_data of data.tcl starts: HOST PORT DB OPS TLS.
source tests/support/redis.tcl
source tests/support/util.tcl
source tests/coffer/strings/data.tcl

set ::tlsdir tests/tls

lassign $argv host port db ops tls
set r [redis $host $port 0 $tls]
$r client setname LOAD_HANDLER
$r select $db
createComplexDataset $r $ops
