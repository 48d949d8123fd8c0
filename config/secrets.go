package config

import "reflect"

// Secrets gives every Secret of the file that is set, for those who must keep them out of a text.
func (c *Config) Secrets() (all []string) {
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					walk(v.Field(i))
				}
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				walk(v.MapIndex(k))
			}
		case reflect.String:
			if v.Type() == reflect.TypeFor[Secret]() && v.Len() > 0 {
				all = append(all, v.String())
			}
		}
	}
	walk(reflect.ValueOf(*c)) // Policy is a pointer and holds none
	return all
}
