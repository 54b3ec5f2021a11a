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

