# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for vmcctl(1)

_vmcctl_guests() {
	vmcctl list 2>/dev/null | awk 'NR > 1 && $2 != "-" { print $2 }'
}

_vmcctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local commands='list channels top show status policy prepare resume doctor monitor metrics version help'
	local options='--json --seconds --watch --socket --help --version'
	local word command='' args=0 skip='' i

	case $prev in
	-s | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--seconds | -w | --watch) return ;;
	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		return
	fi
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $skip ]]; then
			skip=''
		elif [[ $word == -s || $word == --socket || $word == --seconds || $word == -w || $word == --watch ]]; then
			skip=1
		elif [[ $word == -* ]]; then
			:
		elif [[ -z $command ]]; then
			command=$word
		else
			args=$((args + 1))
		fi
	done
	case $command:$args in
	:0 | help:0) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur") ;;
	policy:0) mapfile -t COMPREPLY < <(compgen -W test -- "$cur") ;;
	show:0 | prepare:0 | resume:0 | policy:1 | policy:2)
		mapfile -t COMPREPLY < <(compgen -W "$(_vmcctl_guests)" -- "$cur")
		;;
	esac
}
complete -F _vmcctl vmcctl
