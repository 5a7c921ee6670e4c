// The theme's FontAwesome script replaces <i> elements by <svg>, which breaks the icons of ipywidgets' Play button.
if (window.FontAwesome && FontAwesome.config) {
  FontAwesome.config.observeMutations = false;
}
