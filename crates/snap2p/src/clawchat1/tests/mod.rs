//! Two machines and no network, a peer that tries every hole, and the recorded frames of existing gateways.
