package config

import "strings"

// BaseImages are the images that the Dockerfile takes from registries, with these values of ARGs. They are not
// sure when one of them has a variable of which nothing is known, or something else is fetched from
// elsewhere (ADD of a URL).
func (d Dockerfile) BaseImages(args map[string]string) (images []string, sure bool) {
	sure = !d.Fetches
	for _, image := range d.Images {
		name := d.expand(image, args)
		sure = sure && !strings.Contains(name, "$")
		images = append(images, name)
	}
	return images, sure
}

// BaseImages are those of a Dockerfile's text, and whether it depends on nothing else from elsewhere; not sure, and
// none, when it does not parse.
func BaseImages(dockerfile []byte, args map[string]string) (images []string, sure bool) {
	d, problems := ParseDockerfile("Dockerfile", dockerfile)
	if len(problems) > 0 {
		return nil, false
	}
	return d.BaseImages(args)
}
