//! What a plugin author reads: the Plugin trait, the PluginApi builder, Hook and every contract.
