# The images of a layout: ./out:TAB
_ocibuild_images() {
    # Of the whole word, which bash splits at colons.
    local word="${COMP_LINE:0:COMP_POINT}" layout start name
    word="${word##*[[:space:]]}"
    layout="${word#oci:}"
    layout="${layout%%:*}"
    start="${word%"${word#oci:}"}$layout:"
    [[ -n "$layout" && "$word" == "$start"* && -f "$layout/oci-layout" ]] || return 1
    COMPREPLY=()
    while IFS= read -r name; do
        if [[ "$start$name" == "$word"* ]]; then
            name="$start$name"
            [[ "$COMP_WORDBREAKS" == *:* ]] && name="${name#"${word%"${word##*:}"}"}"
            COMPREPLY+=("$name")
        fi
    done < <(_ocibuild_names "$layout")
}

# Paths in images (cat IMAGE TAB) and catalogs (--catalog TAB)
_ocibuild_candidates() {
    # The words before bash splits them at colons. Those in quotes are left alone.
    local line="${COMP_LINE:0:COMP_POINT}" word found
    local -a words
    [[ "$line" != *[\'\"\\\$\`]* ]] || return 1
    read -ra words <<<"$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    [[ "${words[0]##*/}" == ocibuild && ${#words[@]} -gt 3 ]] || return 1
    word="${words[${#words[@]} - 1]}"
    COMPREPLY=()
    while IFS= read -r found; do
        # Of what bash splits at colons and equals signs, the last part is replaced.
        [[ "$COMP_WORDBREAKS" == *[:=]* ]] && found="${found#"${word%"${word##*[:=]}"}"}"
        COMPREPLY+=("$found")
    done < <(ocibuild complete -- "${words[@]:1}" 2>/dev/null)
    [[ "${COMPREPLY[*]}" == */ ]] && compopt -o nospace 2>/dev/null
    (( ${#COMPREPLY[@]} ))
}

