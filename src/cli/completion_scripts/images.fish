
# The images of a layout: ./out:TAB. A foreign layout chooses its names, so those that would need quotes are left out.
function __ocibuild_images
    set -l parts (string match -r '^((?:oci:)?([^:]+):)' -- (commandline -ct))
    or return
    test -f $parts[3]/oci-layout
    or return
    set -l plain -e 1d -e 's/ .*//' -e 's,^docker\.io/,,' -e 's,^library/,,' -e '/^-$/d' -e '/[^A-Za-z0-9._:/@+-]/d'
    for name in (ocibuild ls $parts[3] 2>/dev/null | sed $plain)
        echo $parts[2]$name
    end
end

complete -c ocibuild -a '(__ocibuild_images)'

# Paths in images (cat IMAGE TAB) and catalogs (--catalog TAB)
function __ocibuild_candidates
    set -l words (commandline -opc)
    test (count $words) -gt 2
    or return
    set -l last (commandline -ct)
    ocibuild complete -- $words[2..-1] "$last" 2>/dev/null
end

complete -c ocibuild -a '(__ocibuild_candidates)'
complete -c ocibuild -n '__fish_seen_subcommand_from layout build dockerfile' -l catalog -r -a '(__ocibuild_candidates)'
