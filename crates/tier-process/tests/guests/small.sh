# A guest as small as one can be, and as quick to start:
#
#     small.sh ID
#
# Its tool has its name, and says so.
while IFS= read -r line; do
    id=${line#*\"id\":}
    id=${id%%[,\}]*}
    case $line in
    *'"method":"hello"'*)
        tool='{"kind":"tool","spec":{"name":"'$1'","description":"Says its name.","input_schema":{"type":"object"}}}'
        result='{"protocol":1,"oldest":1,"plugin":"'$1'","version":"1.0.0","specs":['$tool'],"features":[]}'
        ;;
    *'"method":"plugin.start"'* | *'"method":"plugin.vitals"'*) result='{"health":{"status":"ok"},"facts":{}}' ;;
    *'"method":"tool.call"'*) result='{"content":[{"type":"text","text":"'$1'"}]}' ;;
    *'"method":"plugin.shutdown"'*) result=null ;;
    *'"method":"$/ping"'*)
        printf '{"jsonrpc":"2.0","method":"$/pong","params":{"id":%s}}\n' "$id"
        continue
        ;;
    *) continue ;;
    esac
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
