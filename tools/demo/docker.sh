# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC1091
# The part of the demo that speaks to a Docker that is ready. To be sourced after common.sh.

# Sets problem when it fails: run_containers NETWORK-OPTION...
run_containers() {
	problem=
	driver=$(docker info --format '{{.Driver}} on {{.KernelVersion}}, cgroup {{.CgroupVersion}}') || {
		problem="docker info"
		return 1
	}
	note "docker storage driver $driver"
	if docker image inspect lunroot-demo >/dev/null 2>&1; then
		note "second boot"
	else
		note "first boot"
		docker import --change 'CMD ["/bin/demo"]' $demo/busybox.tar lunroot-demo || {
			problem="docker import"
			return 1
		}
	fi
	docker run --rm "$@" -e "FILES=$(setting lunroot-demo.files 4)" -v lunroot-demo:/data lunroot-demo || {
		problem="docker run"
		return 1
	}
	note "container done: $(cut -d ' ' -f 1 /proc/uptime) s after the kernel's start"
	case $driver in overlay2*) ;; *)
		problem="the storage driver is $driver"
		return 1
		;;
	esac
}
