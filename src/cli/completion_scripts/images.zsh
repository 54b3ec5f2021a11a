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

# Paths in images (cat IMAGE TAB) and catalogs (--catalog TAB)
_ocibuild_candidates() {
    (( CURRENT > 3 )) || return 1
    local -a found
    found=(${(f)"$(ocibuild complete -- "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)"})
    (( ${#found} )) || return 1
    compadd -Q -S '' -- ${(M)found:#*/}
    compadd -Q -- ${found:#*/}
    return 0
}

