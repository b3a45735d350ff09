//! The running agent: messages come in over channels, are answered in order, and leave; none is lost, none is answered twice. It knows the
//! host, the agent and the store; no command line, no socket, no concrete channel.
