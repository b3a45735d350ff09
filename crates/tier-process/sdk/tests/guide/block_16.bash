# Start plugin host in sync mode
python -m plugins._host --sync-mode

# Send JSON-RPC request
echo '{"jsonrpc":"2.0","method":"plugin/load","params":{"name":"my_plugin"},"id":1}'

# Call plugin method
echo '{"jsonrpc":"2.0","method":"plugin/call","params":{"plugin":"my_plugin","method":"synthesize","args":{"text":"Hello"}},"id":2}'
