//! What plugins serve over HTTP, behind one listener. It mounts endpoints; it knows no channel and no agent.
