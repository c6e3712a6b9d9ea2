#compdef vmcctl
# SPDX-License-Identifier: LGPL-2.1-or-later

_vmcctl_guests() {
	local -a guests
	guests=(${(f)"$(vmcctl list 2>/dev/null | awk 'NR > 1 && $2 != "-" { print $2 }')"})
	_describe guest guests
}

_vmcctl() {
	local -a commands
	commands=(
		'list:the guests of this host'
		'channels:the channels between guests'
		'top:what the channels do now, the busiest first'
		'show:one guest in detail'
		'status:vmcd itself'
		'policy:may two guests share memory?'
		'prepare:part a guest from its peers, to save or migrate it'
		'resume:give a prepared guest its peers back'
		'doctor:what is wrong with this host, and what to do'
		'monitor:what happens, as it happens'
		'metrics:all numbers, for Prometheus'
		'version:the version of vmcctl'
		'help:how to use a command'
	)
	local state line
	_arguments -C \
		'(-j --json)'{-j,--json}'[print JSON]' \
		'--seconds[of prepare: for how long]:seconds (1 to 86400)' \
		'(-w --watch)'{-w,--watch}'[again every so many seconds]:seconds (1 to 86400)' \
		'(-s --socket)'{-s,--socket}'[talk to the vmcd at PATH]:socket:_files' \
		'(- *)'{-h,--help}'[print help]' \
		'(- *)'{-V,--version}'[print the version]' \
		'1: :->command' '*:: :->argument'
	case $state in
	command) _describe command commands ;;
	argument)
		case $words[1] in
		show|prepare|resume) (( CURRENT == 2 )) && _vmcctl_guests ;;
		policy)
			if (( CURRENT == 2 )); then
				compadd test
			elif (( CURRENT <= 4 )); then
				_vmcctl_guests
			fi
			;;
		help) (( CURRENT == 2 )) && _describe command commands ;;
		esac
		;;
	esac
}

_vmcctl "$@"
