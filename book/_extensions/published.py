"""Launch buttons belong to a published repository: without its address in _config.yml there are none (the theme would fail)."""


def without_address(app, config):
    """Take the launch buttons out of the options of the theme where no repository is named."""
    options = config.html_theme_options
    if not options.get("repository_url"):
        config.html_theme_options = options | {"launch_buttons": {}}


def setup(app):
    """Called by Sphinx."""
    app.connect("config-inited", without_address)
    return {"parallel_read_safe": True}
