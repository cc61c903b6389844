# Procedures of the harness that fill servers with what Coffer has: strings. The units beside this file put them in the place of Redis's,
# which also write lists, sets and hashes, and then run a unit of Redis's as it is.

# `ops` changes of keys that often meet. useexpire: some keys expire within two seconds. usetag: all keys are of one slot.
proc createComplexDataset {r ops {opt {}}} {
    set tag [expr {"usetag" in $opt ? "{t}" : ""}]
    for {set i 0} {$i < $ops} {incr i} {
        set key [randomKey]$tag
        set value [randomValue]
        if {"useexpire" in $opt && rand() < 0.1} {{*}$r expire [randomKey]$tag [randomInt 2]}
        randpath {
            {*}$r set $key $value
        } {
            {*}$r append $key $value
        } {
            {*}$r setrange $key [randomInt 100] $value
        } {
            catch {{*}$r incrby $key [randomSignedInt 1000]} ;# it may be no number
        } {
            {*}$r mset $key $value [randomKey]$tag $value
        } {
            {*}$r del $key [randomKey]$tag
        }
    }
}

proc start_bg_complex_data {host port db ops} {
    exec [info nameofexecutable] tests/coffer/strings/load.tcl $host $port $db $ops $::tls &
}

# Runs a file of Redis's, without those of its commands (a start_server with all that is in it, say) that match one of the patterns: they
# do something outside of any test that is not there, which would end the harness.
proc source_without {file patterns} {
    set command ""
    foreach line [split [read_whole $file] "\n"] {
        append command $line "\n"
        if {![info complete $command]} continue
        set left_out 0
        foreach pattern $patterns {set left_out [expr {$left_out || [string match *$pattern* $command]}]}
        if {!$left_out} {uplevel #0 $command}
        set command ""
    }
}

proc read_whole {file} {
    set f [open $file]
    set text [read $f]
    close $f
    return $text
}
