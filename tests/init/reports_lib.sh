# A listener for the reports of nodes: sourced, after tests/integration/lib.sh.
#
#   reports_begin [COMMAND...]      listens on a port of its own, $reports_port; a guest behind slirp knows this machine as
#                                   10.0.2.2. COMMAND is what runs the listener: ip netns exec NS
#   reports_await PATTERN SECONDS   until there is such an event: "SEQUENCE EVENT[ TEXT]", an extended regular expression
#   reports_are PATTERN...          the events are, once as many have come, these, "EVENT[ TEXT]", in this order; on a slow machine
#                                   there may be some of waiting for a carrier, a lease or the disk between them
#   reports_are_numbered            no number is missing
#   reports_are_repeated            most came three times, none more often
#   reports_of EVENT                their texts
#   reports_forget                  begins anew
#
# $reports_file has each event once, in the order of arrival; anything that is no report ends the test.

reports_token=00112233445566778899aabbccddeeff
reports_patience=${LUNROOT_TEST_PATIENCE:-3}

reports_begin() {
	reports_file=$daemon_dir/reports
	"$@" python3 - "$reports_file" "$reports_token" >"$reports_file.port" 2>"$reports_file.wrong" <<-'END' &
		import os, re, socket, sys
		path, token = sys.argv[1:3]
		listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		listener.bind(("", 0))
		print(listener.getsockname()[1], flush=True)
		form = re.compile(r"lunroot-report 1 " + token + r" ([1-9][0-9]*) ([a-z-]+)( .+)?\Z")
		while True:
		    data = listener.recv(2048)
		    text = data.decode("utf-8", "replace")
		    found = form.match(text)
		    if len(data) > 512 or "\ufffd" in text or not text.isprintable() or not found:
		        print("no report: %r" % data, file=sys.stderr, flush=True)
		        continue
		    line = text.split(" ", 3)[3] + "\n"
		    with open(path + ".all", "a") as all_copies:
		        all_copies.write(line)
		    seen = open(path).read() if os.path.exists(path) else ""
		    same = re.search("^%s .*\n" % found[1], seen, re.M)
		    if not same:
		        with open(path, "a") as once:
		            once.write(line)
		    elif same[0] != line:
		        print("two events with one number: %r" % line, file=sys.stderr, flush=True)
	END
	reports_pid=$!
	: >"$reports_file"
	local i
	for ((i = 0; i < 600; i++)); do
		[ ! -s "$reports_file.port" ] || break
		sleep 0.1
	done
	reports_port=$(cat "$reports_file.port")
	[ -n "$reports_port" ] || fail "the listener for reports does not start"
	at_exit "kill $reports_pid 2>/dev/null"
}

reports_fail() {
	cat "$reports_file" >&2
	fail "$1"
}

reports_all_are_good() { [ ! -s "$reports_file.wrong" ] || reports_fail "$(head -n 3 "$reports_file.wrong")"; }

reports_await() {
	local i
	for ((i = 0; i < $2 * reports_patience * 10; i++)); do
		reports_all_are_good
		! grep -Eq -e "$1" "$reports_file" || return 0
		sleep 0.1
	done
	reports_fail "no such report in $(($2 * reports_patience)) s: $1"
}

reports_without_waits() {
	sort -n "$reports_file" | grep -Ev '^[0-9]+ waiting (no wired network interface|no disk yet: |([a-z0-9]+: )?no (carrier|lease))' | cut -d ' ' -f 2-
}
reports_are() {
	local number=0 pattern i
	for ((i = 0; i < 10 * reports_patience && $(reports_without_waits | wc -l) < $#; i++)); do sleep 0.1; done
	reports_are_numbered
	for pattern in "$@"; do
		number=$((number + 1))
		reports_without_waits | sed -n "${number}p" | grep -Exq -e "$pattern" || reports_fail "step $number is not: $pattern"
	done
	[ "$(reports_without_waits | wc -l)" = $number ] || reports_fail "more than $number steps"
}

reports_are_numbered() {
	sort -n "$reports_file" | cut -d ' ' -f 1 | diff - <(seq "$(wc -l <"$reports_file")") >/dev/null ||
		reports_fail "not numbered from 1 without a gap"
}

# The last ones of a machine that is gone may have had no time for it.
reports_are_repeated() {
	local counts
	counts=$(sort "$reports_file.all" | uniq -c | awk '{ print $1 }' | sort -n)
	[ "$(tail -n 1 <<<"$counts")" = 3 ] && [ "$(grep -cx 3 <<<"$counts")" -ge 7 ] ||
		reports_fail "not sent three times: $(sort "$reports_file.all" | uniq -c)"
}

reports_of() { sed -n "s/^[0-9]* $1 //p" "$reports_file"; }

reports_forget() {
	sleep 1.5
	rm -f "$reports_file.all"
	: >"$reports_file"
}
