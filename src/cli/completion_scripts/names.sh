# The names in a layout. Others than these characters would need quotes, and a foreign layout chooses its names.
_ocibuild_names() {
    ocibuild ls "$1" 2>/dev/null | sed -e 1d -e 's/ .*//' -e 's,^docker\.io/,,' -e 's,^library/,,' \
        -e '/^-$/d' -e '/[^A-Za-z0-9._:/@+-]/d'
}

