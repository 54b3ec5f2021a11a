# The images of a layout: ./out:TAB
_ocibuild_images() {
    local word="$PREFIX" layout start
    layout="${word#oci:}"
    layout="${layout%%:*}"
    start="${word%"${word#oci:}"}$layout:"
    [[ -n "$layout" && "${word[1,${#start}]}" == "$start" && -f "$layout/oci-layout" ]] || return 1
    local -a names
    names=(${(f)"$(_ocibuild_names "$layout")"})
    (( ${#names} )) && compadd -Q -- "${(@)names/#/$start}"
}

